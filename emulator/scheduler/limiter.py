"""How many containers may be booting at once on this machine: boots need CPUs, and a storm of them helps nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

HOLD = 2.0
"""Seconds for which a boot holds its place at most. One that takes longer waits for something (weights, another
function, a lock), and must not keep from starting what it may be waiting for."""


class StartLimiter:
    """Counts boots in progress across all pools and pokes those that wait when one ends. Knows no clock."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._starting: dict[str, float] = {}
        """Until when each boot holds its place, in the order in which they began."""
        self._waiting: dict[object, Callable[[], None]] = {}

    def free(self, now: float) -> int:
        """Boots that may begin now."""
        for task_id in [task_id for task_id, until in self._starting.items() if until <= now]:
            del self._starting[task_id]
        return max(0, self._limit - len(self._starting))

    def frees_at(self) -> float | None:
        """When there is a place again, though no boot has ended by then."""
        return min(self._starting.values(), default=None)

    def wait(self, pool: object, wake: Callable[[], None]) -> None:
        """`wake` is called once, when a boot has ended."""
        self._waiting[pool] = wake

    def begin(self, task_id: str, now: float) -> None:
        self._starting[task_id] = now + HOLD

    def end(self, task_id: str) -> None:
        """That boot is over, well or not. Harmless when repeated."""
        self._starting.pop(task_id, None)
        waiting, self._waiting = self._waiting, {}
        for wake in waiting.values():
            wake()
