"""Time, as everything in the emulator that waits sees it.

Nothing else in `emulator/` may call `time.*`, `asyncio.sleep`, `asyncio.wait_for` or `asyncio.timeout` (a lint rule
holds that), so that a clock which tests turn can stand in for the real one.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager


LOOK_AGAIN = 60.0
"""Seconds after which the time of day is read again: it may have been set, or the machine may have slept."""


class Clock(Protocol):
    """What the emulator asks of time. All durations are in seconds."""

    def time(self) -> float:
        """Seconds since the epoch, for what is shown or stored."""

    def monotonic(self) -> float:
        """Seconds on a scale that never goes backwards, for differences and deadlines."""

    async def sleep(self, seconds: float) -> None:
        """Wait until `seconds` have passed."""

    def timeout(self, seconds: float | None) -> AbstractAsyncContextManager[object]:
        """A context whose body is cancelled, and which raises `TimeoutError`, once `seconds` have passed.

        `None` never times out.
        """

    def until(self, moment: float | None) -> AbstractAsyncContextManager[object]:
        """The same at a time of day, in seconds since the epoch. It may end sooner: look at `time`, and wait again."""

    @property
    def outside(self) -> Clock:
        """The time of those who do not follow this clock, however it is turned: clients, their connections, machines.

        Whether they are still there, how long they wait, and how often to look at them is a matter of theirs.
        """


class RealClock:
    """The machine's own time."""

    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def timeout(self, seconds: float | None) -> AbstractAsyncContextManager[object]:
        return asyncio.timeout(seconds)

    def until(self, moment: float | None) -> AbstractAsyncContextManager[object]:
        return asyncio.timeout(None if moment is None else min(LOOK_AGAIN, max(0.0, moment - self.time())))

    @property
    def outside(self) -> RealClock:
        return self
