"""How many containers may be booting at once on this machine: boots need CPUs, and a storm of them helps nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class StartLimiter:
    """Counts boots in progress across all pools and pokes those that were refused when one ends."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._starting: set[str] = set()
        self._waiting: dict[object, Callable[[], None]] = {}

    def free(self, pool: object, wake: Callable[[], None]) -> int:
        """Boots that may begin now. When none may, `wake` is called once after one has ended."""
        free = max(0, self._limit - len(self._starting))
        if not free:
            self._waiting[pool] = wake
        return free

    def begin(self, task_id: str) -> None:
        self._starting.add(task_id)

    def end(self, task_id: str) -> None:
        """That boot is over, well or not. Harmless when repeated."""
        if task_id not in self._starting:
            return
        self._starting.discard(task_id)
        waiting, self._waiting = self._waiting, {}
        for wake in waiting.values():
            wake()
