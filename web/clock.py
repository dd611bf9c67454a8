"""Time, as everything in the web tier that waits sees it.

Nothing else in `web/` may call `time.*`, `asyncio.sleep`, `asyncio.wait_for` or `asyncio.timeout`, so that a clock
which tests turn can stand in for the real one.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager


class Timer(Protocol):
    """What is to happen once."""

    def cancel(self) -> object:
        """Let it not happen. Harmless once it has."""


class Clock(Protocol):
    """What the web tier asks of time. All durations are in seconds."""

    def time(self) -> float:
        """Seconds since the epoch, for what is shown."""

    def monotonic(self) -> float:
        """Seconds on a scale that never goes backwards, for differences and deadlines."""

    async def sleep(self, seconds: float) -> None:
        """Wait until `seconds` have passed."""

    def timeout(self, seconds: float | None) -> AbstractAsyncContextManager[object]:
        """A context whose body is cancelled, and which raises `TimeoutError`, once `seconds` have passed.

        `None` never times out.
        """

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Call `callback` on the running loop once `seconds` have passed. Costs less than a task that sleeps."""


class RealClock:
    """The machine's own time."""

    # As they are: every request asks a dozen times.
    monotonic = staticmethod(time.monotonic)
    time = staticmethod(time.time)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def timeout(self, seconds: float | None) -> AbstractAsyncContextManager[object]:
        return asyncio.timeout(seconds)

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        return asyncio.get_running_loop().call_later(seconds, callback)
