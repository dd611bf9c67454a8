"""One container as its pool sees it: what it works on, what it was told, when it must be gone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from emulator.signals import Signal

if TYPE_CHECKING:
    import asyncio

    from modal_proto import api_pb2

    from emulator.containers.base import Container
    from emulator.scheduler.calls import Input

State = Literal["starting", "ready", "draining", "gone"]


@dataclass(eq=False)
class Attempt:
    """One input as one container works on it."""

    item: Input
    retry_count: int
    deadline: float
    settled: bool = False
    """Its outcome is decided (timeout, cancellation), but the container still holds it."""


@dataclass(eq=False)
class Slot:
    """A container's place in its pool, from the decision to start it until its process has ended."""

    task_id: str
    version: int
    started_at: float
    created_at: float
    """Seconds since the epoch, for lists."""
    startup_deadline: float
    state: State = "starting"
    ready_at: float | None = None
    """When it had booted, on the scale of `started_at`."""
    served_at: float = 0.0
    """When it last finished an input or a request."""
    container: Container | None = None
    attempts: dict[str, Attempt] = field(default_factory=dict)
    """By input id, in order of assignment."""
    requests: int = 0
    """HTTP requests that a Server's container is serving."""
    idle_since: float | None = None
    kill_at: float | None = None
    terminate_at: float | None = None
    doomed: bool = False
    """It has been killed, or will be as soon as there is something to kill."""
    cut_short: bool = False
    """It was ended while it worked."""
    boot_result: api_pb2.GenericResult | None = None
    held_back: bool = False
    """It waits on the clock before it starts, as a test has planned."""
    boot_noted: bool = False
    """Its failure to boot has been counted."""
    cancellations: list[str] = field(default_factory=list)
    changed: Signal = field(default_factory=Signal)
    """Something for this container: an input, a cancellation, the order to leave."""
    polling: bool = False
    """It has asked for an input and waits."""
    held: int = 0
    """Its requests that wait until others have done something: for outputs of its calls, say."""
    watcher: asyncio.Task[None] | None = None
    """Lives as long as the container does."""
    starting: asyncio.Task[Container] | None = None

    @property
    def active(self) -> int:
        return len(self.attempts) + self.requests

    @property
    def booted_at(self) -> float:
        """Seconds since the epoch, for lists; 0 while it starts."""
        return 0.0 if self.ready_at is None else self.created_at + self.ready_at - self.started_at

    @property
    def alive(self) -> bool:
        return self.state != "gone"

    def cancel(self, input_id: str) -> None:
        self.cancellations.append(input_id)
        self.changed.notify()

    def repeat_cancellations(self) -> None:
        """Tell it again of what it still holds: one that came just as the input did is lost on the client's runtime."""
        held = (input_id for input_id, attempt in self.attempts.items() if attempt.settled)
        self.cancellations += [input_id for input_id in held if input_id not in self.cancellations]

    def take_cancellations(self) -> list[str]:
        taken, self.cancellations = self.cancellations, []
        return taken

    def next_deadline(self) -> float | None:
        """The next moment at which this container, or one of its attempts, has run out of time."""
        if self.doomed:
            return None
        moments = [attempt.deadline for attempt in self.attempts.values()]
        moments += [at for at in (self.kill_at, self.terminate_at) if at is not None]
        if self.state == "starting":
            moments.append(self.startup_deadline)
        return min(moments, default=None)
