"""How many containers may be booting at once on this machine: boots need CPUs, and a storm of them helps nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

HOLD = 2.0
"""Seconds for which a boot holds its place at most. One that takes longer waits for something (weights, another
function, a lock), and must not keep from starting what it may be waiting for."""


class StartLimiter:
    """Gives the places of boots to functions in turn. Knows no clock."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._starting: dict[str, float] = {}
        """Until when each boot holds its place."""
        self._waiting: dict[str, Callable[[], None]] = {}
        """Functions that want a place, the longest waiting first."""

    def free(self, function_id: str, now: float) -> int:
        """Boots that a function may begin now: places that nobody has and that nobody has waited for longer."""
        for task_id in [task_id for task_id, until in self._starting.items() if until <= now]:
            del self._starting[task_id]
        waiting = list(self._waiting)
        ahead = waiting.index(function_id) if function_id in self._waiting else len(waiting)
        return max(0, self._limit - len(self._starting) - ahead)

    def frees_at(self) -> float | None:
        """When there is a place again, though no boot has ended by then."""
        return min(self._starting.values(), default=None)

    def wait(self, function_id: str, wake: Callable[[], None]) -> None:
        """Stand in line. `wake` is called whenever it may be the function's turn, until it leaves the line."""
        self._waiting.setdefault(function_id, wake)

    def leave(self, function_id: str) -> None:
        """It wants no place any more, or has got one: who still wants one stands behind the others."""
        if self._waiting.pop(function_id, None) is not None:
            self._wake()

    def begin(self, task_id: str, now: float) -> None:
        self._starting[task_id] = now + HOLD

    def end(self, task_id: str) -> None:
        """That boot is over, well or not. Harmless when repeated."""
        self._starting.pop(task_id, None)
        self._wake()

    def _wake(self) -> None:
        for wake in list(self._waiting.values()):
            wake()
