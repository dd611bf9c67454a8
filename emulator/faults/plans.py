"""Which fault strikes what, and when. Knows neither containers nor sockets nor time: others ask it and act.

It is asked from the emulator's loop, from the threads of S3 and DynamoDB and from the test's own.
"""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from emulator.state import FunctionRecord

Unit = Literal["bytes", "events", "messages"]
Service = Literal["s3", "dynamodb"]

_Kind = TypeVar("_Kind", bound="FunctionFault")


@dataclass(eq=False, kw_only=True)
class Fault:
    """One thing that is to go wrong, until it has struck `times` times or is lifted."""

    times: int | None = 1
    """`None`: until it is lifted."""
    struck: int = 0
    """How often it has happened."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __post_init__(self) -> None:
        if self.times is not None and self.times < 1:
            raise ValueError(f"times={self.times}: a fault strikes at least once, or times=None until it is lifted")

    @property
    def armed(self) -> bool:
        """Whether it can still strike."""
        return self.times is None or self.struck < self.times

    def lift(self) -> None:
        """It strikes no more."""
        with self._lock:
            self.times = self.struck

    def strike(self) -> bool:
        """Whether it happens now; then it has."""
        with self._lock:
            happens = self.armed
            self.struck += happens
        return happens


@dataclass(eq=False, kw_only=True)
class FunctionFault(Fault):
    """Of a function, class or Server, by its name and (if given) its app's."""

    function: str
    app: str = ""

    def concerns(self, name: str, app: str) -> bool:
        return name == self.function and self.app in ("", app)


@dataclass(eq=False, kw_only=True)
class DeathAtInput(FunctionFault):
    """A container is killed as it is given its nth input, or (a Server's) its nth request."""

    nth: int = 1
    _counts: dict[str, int] = field(default_factory=dict)

    def reached(self, task_id: str, given: int) -> bool:
        """Whether that container has its nth with these."""
        before = self._counts.get(task_id, 0)
        self._counts[task_id] = before + given
        return before < self.nth <= before + given


@dataclass(eq=False, kw_only=True)
class BootFault(FunctionFault):
    """A container that starts late, or ends instead."""

    seconds: float = 0.0
    exit_code: int | None = None
    """With which it ends before it has begun; `None`: it starts."""


@dataclass(eq=False, kw_only=True)
class StreamFault(FunctionFault):
    """A web answer or WebSocket that breaks off after so many of `unit`."""

    unit: Unit
    after: int


@dataclass(eq=False, kw_only=True)
class GeneratorFault(FunctionFault):
    """A generator's data that break off after so many items."""

    after: int


@dataclass(eq=False, kw_only=True)
class AwsFault(Fault):
    """A request to S3 or DynamoDB that is not answered as it should be. `code` is an error's, "timeout" or "lost"."""

    service: Service
    code: str
    operation: str = ""
    """Empty: any."""
    share: float = 1.0
    """Of the requests that it concerns."""
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._chance = random.Random(self.seed)

    def concerns(self, service: str, operation: str) -> bool:
        return service == self.service and self.operation in ("", operation)

    def strike(self) -> bool:
        with self._lock:
            chosen = self.armed and self._chance.random() < self.share
            self.struck += chosen
        return chosen


class Plans:
    """Every fault that is planned for one emulator. `app_name` tells an app's name from its id."""

    def __init__(self, app_name: Callable[[str], str] = lambda _: "") -> None:
        self._faults: list[Fault] = []
        self._app_name = app_name

    def add(self, fault: Fault) -> None:
        self._faults.append(fault)

    def clear(self) -> None:
        """Lift them all."""
        for fault in self._faults:
            fault.lift()
        self._faults = []

    # What is asked

    def dies(self, record: FunctionRecord, task_id: str, *, given: int = 1) -> bool:
        """Whether a container is to be killed that has just been given so many inputs."""
        faults = self._of(DeathAtInput, record)
        due = [fault for fault in faults if fault.reached(task_id, given)]  # all of them count
        return any(fault.strike() for fault in due)

    def boot(self, record: FunctionRecord) -> BootFault | None:
        """What befalls a container that starts now."""
        return next((fault for fault in self._of(BootFault, record) if fault.strike()), None)

    def stream(self, record: FunctionRecord) -> StreamFault | None:
        """By what an answer that begins now may be broken off; it has to `strike` when that happens."""
        return next(iter(self._of(StreamFault, record)), None)

    def generator(self, record: FunctionRecord) -> GeneratorFault | None:
        """The same for what a generator yields."""
        return next(iter(self._of(GeneratorFault, record)), None)

    def aws(self, service: str, operation: str) -> AwsFault | None:
        """What befalls a request to S3 or DynamoDB."""
        faults = [fault for fault in self._faults if isinstance(fault, AwsFault)]
        return next((fault for fault in faults if fault.concerns(service, operation) and fault.strike()), None)

    def _of(self, kind: type[_Kind], record: FunctionRecord) -> list[_Kind]:
        if not self._faults:
            return []
        name, app = record.tag.removesuffix(".*"), self._app_name(record.app_id)
        of_kind = [fault for fault in self._faults if isinstance(fault, kind)]
        return [fault for fault in of_kind if fault.armed and fault.concerns(name, app)]
