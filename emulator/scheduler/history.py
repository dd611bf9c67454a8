"""What has been: containers, inputs and Servers' requests, those of late, for whoever asks about them afterwards."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from modal_proto import api_pb2

    from emulator.scheduler.calls import Input
    from emulator.state import FunctionRecord

TASKS_KEPT = 2_000
"""Containers that have ended."""
INPUTS_KEPT = 20_000
"""Inputs that have an outcome."""
REQUESTS_KEPT = 20_000
"""Requests to Servers that have been answered."""


@dataclass(eq=False)
class Task:
    """A container. Times are seconds since the epoch, 0 for what has not been."""

    task_id: str
    app_id: str
    function_id: str
    root_function_id: str
    """Of the function that parameters or options were bound to; else its own."""
    enqueued_at: float
    started_at: float = 0.0
    """Its process is there."""
    ready_at: float = 0.0
    """It took its first input, or its server listened."""
    finished_at: float = 0.0
    failed: bool = False
    """It ended in another way than by its own will or on request."""


@dataclass(frozen=True)
class Done:
    """An input that has its outcome."""

    call_id: str
    input_id: str
    function_id: str
    method: str
    task_id: str
    enqueued_at: float
    started_at: float
    """0 for one that no container has had."""
    finished_at: float
    status: api_pb2.GenericResult.GenericStatus.ValueType


@dataclass(frozen=True)
class Served:
    """A request that a Server's container has had."""

    function_id: str
    task_id: str
    route: str
    at: float
    """When it came: seconds since the epoch."""
    seconds: float
    """Until its answer was complete."""
    status: int


class History:
    """`changed` is called with each container that has come to be, is ready, or has ended."""

    def __init__(self, changed: Callable[[Task], None] = lambda _: None) -> None:
        self._changed = changed
        self._tasks: OrderedDict[str, Task] = OrderedDict()
        self._inputs: deque[Done] = deque(maxlen=INPUTS_KEPT)
        self._served: deque[Served] = deque(maxlen=REQUESTS_KEPT)

    # Containers

    def begun(self, task_id: str, record: FunctionRecord, now: float) -> None:
        root = record.base_function_id or record.function_id
        self._tasks[task_id] = Task(task_id, record.app_id, record.function_id, root, now)

    def add(self, task: Task) -> None:
        """A container that is no function's."""
        self._tasks[task.task_id] = task

    def started(self, task_id: str, now: float) -> None:
        if (task := self._tasks.get(task_id)) is not None:
            task.started_at = now
            self._changed(task)

    def ready(self, task_id: str, now: float) -> None:
        if (task := self._tasks.get(task_id)) is not None:
            task.ready_at = now
            self._changed(task)

    def finished(self, task_id: str, now: float, *, failed: bool) -> None:
        task = self._tasks.get(task_id)
        if task is None:
            return
        task.finished_at, task.failed = now, failed
        self._tasks.move_to_end(task_id)
        while len(self._tasks) > TASKS_KEPT and next(iter(self._tasks.values())).finished_at:
            self._tasks.popitem(last=False)
        self._changed(task)

    def task(self, task_id: str) -> Task | None:
        return self._tasks.get(task_id)

    def tasks(self, function_ids: frozenset[str] | None = None) -> Iterator[Task]:
        """Of these functions, or all."""
        for task in list(self._tasks.values()):
            if function_ids is None or task.function_id in function_ids:
                yield task

    # Inputs

    def done(self, item: Input, output: api_pb2.FunctionGetOutputsItem, now: float) -> None:
        """An input has its outcome."""
        self._inputs.append(
            Done(
                item.call.call_id,
                item.input_id,
                item.call.function_id,
                item.payload.method_name,
                output.task_id or item.task_id,
                item.enqueued_at,
                item.started_at,
                now,
                output.result.status,
            )
        )

    def inputs(self, function_ids: frozenset[str]) -> Iterator[Done]:
        """Of these functions, the oldest first."""
        return (done for done in list(self._inputs) if done.function_id in function_ids)

    # Requests

    def served(self, request: Served) -> None:
        self._served.append(request)

    def requests(self, function_id: str) -> list[Served]:
        """To that Server, in the order in which they came."""
        return sorted((r for r in list(self._served) if r.function_id == function_id), key=lambda r: r.at)
