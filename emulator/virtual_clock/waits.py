"""How a task waits for a moment of a virtual clock: to sleep until it, or to be cut off at it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from emulator.virtual_clock.agenda import Due
    from emulator.virtual_clock.clock import VirtualClock


def soon(loop: asyncio.AbstractEventLoop, act: Callable[[], None]) -> None:
    """Have a loop do something, from any thread; one that is closed has nobody waiting on it."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(act)


async def sleep(clock: VirtualClock, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    woken: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not woken.done():
            woken.set_result(None)

    if seconds <= 0:
        loop.call_soon(wake)
        await woken
        return
    due = clock.add(seconds, lambda: soon(loop, wake))
    try:
        await woken
    finally:
        clock.drop(due)


class Timeout:
    """`asyncio.timeout`, but for what time it is."""

    def __init__(self, clock: VirtualClock, seconds: float | None) -> None:
        self._clock = clock
        self._seconds = seconds
        self._timeout = asyncio.Timeout(None)
        self._due: Due | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        await self._timeout.__aenter__()
        if self._seconds is not None and self._seconds > 0:
            self._due = self._clock.add(self._seconds, lambda: soon(loop, self._expire))
        elif self._seconds is not None:
            self._expire()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._due is not None:
            self._clock.drop(self._due)
        await self._timeout.__aexit__(kind, error, trace)

    def _expire(self) -> None:
        with suppress(RuntimeError):  # the body has just ended
            self._timeout.reschedule(asyncio.get_running_loop().time())
