"""How much time a container that is told to leave has: a function's to finish, a Server's for its requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from emulator.scheduler.policy import limits, sessioned

if TYPE_CHECKING:
    from emulator.scheduler.slot import Slot
    from emulator.state import FunctionRecord

EXIT_GRACE = 30.0
"""Seconds for exit handlers, from the request to leave until the kill."""


class Leaving(Protocol):
    """Sets the times by which a draining container must have left."""

    def begin(self, slot: Slot, now: float) -> None:
        """It takes no new work; what it has it may finish."""

    def at_once(self, slot: Slot, now: float, /) -> None:
        """The same, where nobody waits for what it works on any more."""


class FunctionLeaving:
    """A function's container is told when it asks for the next input; one that is to leave at once, by SIGINT."""

    def begin(self, slot: Slot, now: float) -> None:
        if not slot.active:  # a busy one has its inputs' own deadlines, and is asked again when it has finished
            slot.kill_at = now + EXIT_GRACE

    def at_once(self, slot: Slot, _now: float, /) -> None:
        """SIGINT ends what it works on, and the client's runtime goes on to the exit handlers, as on Modal."""
        if slot.active and slot.container is not None:
            slot.container.interrupt()


class ServerLeaving:
    """A Server's container is sent SIGTERM, once its requests have ended or its grace period has; its sessions may
    end in their own time."""

    def __init__(self, record: FunctionRecord) -> None:
        self._record = record

    def begin(self, slot: Slot, now: float) -> None:
        if slot.requests and sessioned(self._record.definition):
            return
        grace = limits(self._record.definition).exit_grace if slot.requests else 0.0
        slot.terminate_at = now + grace
        slot.kill_at = now + grace + EXIT_GRACE

    def at_once(self, slot: Slot, now: float) -> None:
        slot.terminate_at = now
