"""Looks at something again whenever it has changed or a moment has come, and never stops looking in silence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emulator.signals import Signal

if TYPE_CHECKING:
    from collections.abc import Callable

    from emulator.clock import Clock

TICK_AGAIN = 1.0
"""Seconds until the next look after one that raised."""


class Ticker:
    """Calls `look(now)`, which answers when it wants to be called again at the latest, until `over()` holds."""

    def __init__(
        self,
        *,
        clock: Clock,
        look: Callable[[float], float | None],
        over: Callable[[], bool],
        failed: Callable[[Exception], None],
    ) -> None:
        self._clock = clock
        self._look = look
        self._over = over
        self._failed = failed
        self._dirty = True
        self._changed = Signal()

    def touch(self) -> None:
        """Something changed: look again."""
        self._dirty = True
        self._changed.notify()

    async def run(self) -> None:
        """Returns once `over()` holds."""
        while True:
            self._dirty = False
            wake_at = self._look_once(self._clock.monotonic())
            if self._over():
                return
            timeout = None if wake_at is None else max(0.0, wake_at - self._clock.monotonic())
            try:
                async with self._clock.timeout(timeout):
                    while not self._dirty:
                        await self._changed.wait()
            except TimeoutError:
                pass

    def _look_once(self, now: float) -> float | None:
        """What goes wrong is said, and tried again: who waits for a pool that stopped deciding would hang."""
        try:
            return self._look(now)
        except Exception as error:
            self._failed(error)
            self._dirty = False  # what it changed before it raised is looked at then: never again and again at once
            return now + TICK_AGAIN
