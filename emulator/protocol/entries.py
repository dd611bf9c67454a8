"""An app's log as entries: lines put together again from the pieces in which they came, and filters. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from modal_proto import api_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from google.protobuf.timestamp_pb2 import Timestamp

    from emulator.containers.base import Stream
    from emulator.scheduler.history import Task
    from emulator.scheduler.slot import Slot
    from emulator.state import FunctionRecord

    Request = api_pb2.AppGetLogsRequest | api_pb2.AppFetchLogsRequest | api_pb2.AppCountLogsRequest

STREAMS = {
    "stdout": api_pb2.FILE_DESCRIPTOR_STDOUT,
    "stderr": api_pb2.FILE_DESCRIPTOR_STDERR,
    "system": api_pb2.FILE_DESCRIPTOR_INFO,
}


@dataclass(frozen=True)
class Filter:
    """What a request wants of a log. What is empty does not restrict."""

    function_id: str = ""
    """With all its variants: those that parameters or options make."""
    variant_id: str = ""
    """That very one."""
    call_id: str = ""
    input_id: str = ""
    task_id: str = ""
    source: int = 0
    search: str = ""

    def wants(self, line: Entry) -> bool:
        return self.covers(line.batch, line.item) and self.search in line.data

    def covers(self, batch: api_pb2.TaskLogsBatch, item: api_pb2.TaskLogs) -> bool:
        """Whether it is from where it is wanted from, whatever it says."""
        return (
            (not self.function_id or self.function_id in (batch.function_id, batch.root_function_id))
            and (not self.variant_id or self.variant_id == batch.function_id)
            and (not self.call_id or self.call_id == item.function_call_id)
            and (not self.input_id or self.input_id == item.input_id)
            and (not self.task_id or self.task_id == batch.task_id)
            and (not self.source or self.source == item.file_descriptor)
        )


def filter_of(request: Request, task_of: Callable[[str], str]) -> Filter:
    """The filter of a request; fields that the installed client does not know yet restrict nothing.

    `task_of` finds the container of a Sandbox.
    """
    sandbox_id = getattr(request, "sandbox_id", "")
    source = request.file_descriptor if isinstance(request, api_pb2.AppGetLogsRequest) else request.source
    return Filter(
        function_id=request.function_id,
        variant_id=getattr(request, "parametrized_function_id", ""),
        call_id=request.function_call_id,
        input_id=getattr(request, "input_id", ""),
        task_id=task_of(sandbox_id) if sandbox_id else request.task_id,
        source=source,
        search=request.search_text,
    )


def selected(batches: Iterable[api_pb2.TaskLogsBatch], wanted: Filter) -> Iterator[api_pb2.TaskLogsBatch]:
    """Batches as they came, for who follows; each with the items that are wanted, and none without any.

    They are not searched: they hold pieces of lines, and the client searches what it follows itself.
    """
    for batch in batches:
        items = [item for item in batch.items if wanted.covers(batch, item)]
        if len(items) == len(batch.items):
            yield batch
        elif items:
            yield _batch(batch, items)


@dataclass(eq=False, slots=True)
class Entry:
    """One line of a log, whole as far as it has come."""

    batch: api_pb2.TaskLogsBatch
    """The one that it began in."""
    item: api_pb2.TaskLogs
    """Its beginning, of which only what is not `data` counts."""
    data: str

    def message(self) -> api_pb2.TaskLogsBatch:
        made = _batch(self.batch, [self.item])
        made.items[0].data = self.data
        return made


def entries(batches: Iterable[api_pb2.TaskLogsBatch], wanted: Filter, since: float, until: float) -> list[Entry]:
    """Whole lines, in the order in which they began.

    `since` is inclusive, `until` is not: seconds since the epoch, compared with when a line began.
    """
    found: list[Entry] = []
    begun: dict[tuple[str, int], Entry] = {}
    """Lines without an end yet, by container and stream."""
    for batch in batches:
        for item in batch.items:
            data, key = item.data, (batch.task_id, item.file_descriptor)
            if not data:  # a container's state
                continue
            line = begun.pop(key, None) if begun else None
            if line is None:
                line = Entry(batch, item, data)
                found.append(line)
            else:
                line.data += data
            if not data.endswith("\n"):
                begun[key] = line
    return [line for line in found if since <= line.item.timestamp < until and wanted.wants(line)]


def seconds(timestamp: Timestamp) -> float:
    return float(timestamp.seconds + timestamp.nanos / 1e9)


def _batch(batch: api_pb2.TaskLogsBatch, items: list[api_pb2.TaskLogs]) -> api_pb2.TaskLogsBatch:
    return api_pb2.TaskLogsBatch(
        task_id=batch.task_id,
        function_id=batch.function_id,
        root_function_id=batch.root_function_id,
        entry_id=batch.entry_id,
        items=items,
    )


def container_output(
    text: str, stream: Stream, *, record: FunctionRecord, slot: Slot, now: float
) -> api_pb2.TaskLogsBatch:
    """A piece of a container's output. It is an input's where the container works on that one alone."""
    call_id = input_id = ""
    if len(slot.attempts) == 1:
        (attempt,) = slot.attempts.values()
        call_id, input_id = attempt.item.call.call_id, attempt.item.input_id
    return output(
        text,
        STREAMS[stream],
        now=now,
        task_id=slot.task_id,
        function_id=record.function_id,
        root_function_id=record.base_function_id or record.function_id,
        call_id=call_id,
        input_id=input_id,
    )


def container_state(task: Task, now: float) -> api_pb2.TaskLogsBatch:
    """What has become of a container, as a follower's terminal counts them; no line of the log."""
    state = api_pb2.TASK_STATE_IDLE if task.ready_at else api_pb2.TASK_STATE_WORKER_ASSIGNED
    item = api_pb2.TaskLogs(task_state=api_pb2.TASK_STATE_COMPLETED if task.finished_at else state, timestamp=now)
    return api_pb2.TaskLogsBatch(
        task_id=task.task_id, function_id=task.function_id, root_function_id=task.root_function_id, items=[item]
    )


def output(
    text: str,
    descriptor: api_pb2.FileDescriptor.ValueType,
    *,
    now: float,
    task_id: str = "",
    function_id: str = "",
    root_function_id: str = "",
    call_id: str = "",
    input_id: str = "",
) -> api_pb2.TaskLogsBatch:
    """A piece of output as a batch: an item for each line of it, the last one perhaps without an end."""
    *whole, rest = text.split("\n")  # not splitlines: a progress bar's carriage returns end no line
    lines = [line + "\n" for line in whole] + [rest] * bool(rest)
    return api_pb2.TaskLogsBatch(
        task_id=task_id,
        function_id=function_id,
        root_function_id=root_function_id,
        items=[
            api_pb2.TaskLogs(
                data=line,
                file_descriptor=descriptor,
                timestamp=now,
                timestamp_ns=int(now * 1e9),
                function_call_id=call_id,
                input_id=input_id,
                container_id=task_id,
            )
            for line in lines
        ],
    )
