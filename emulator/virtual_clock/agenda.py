"""Who waits for which moment. Belongs to one clock, which holds its lock around every call."""

from __future__ import annotations

import heapq
import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

Rank = Literal[0, 1]
"""Who is woken first of those that wait for the same moment: the emulator (0), then containers' code (1).

As in real time, where a container's code begins to wait a little later than the emulator has begun to count: a function
that sleeps for as long as its `timeout` is timed out.
"""
EMULATOR: Rank = 0
INSIDE: Rank = 1

GRAIN = 2.0**-20
"""Seconds (about a millionth) that moments are multiples of: sums and differences of them are exact as floats."""

KEPT_DROPPED = 64
"""Of those that wait no more: a request that was answered in time leaves its time limit behind."""


@dataclass(eq=False)
class Due:
    """One who waits."""

    at: float
    wake: Callable[[], None]
    """Called once, from any thread, with the clock's lock held: it must only pass the word on."""
    fired: bool = False
    dropped: bool = False


class Agenda:
    """Moments in their order, and those of one moment by rank and then by who came first."""

    def __init__(self) -> None:
        self._dropped = 0
        self._order = itertools.count()
        self._heap: list[tuple[float, Rank, int, Due]] = []

    def add(self, at: float, rank: Rank, wake: Callable[[], None]) -> Due:
        """Never earlier than `at`."""
        due = Due(grained(at), wake)
        heapq.heappush(self._heap, (due.at, rank, next(self._order), due))
        return due

    def next(self) -> Due | None:
        """The first that still waits."""
        while self._heap and self._heap[0][3].dropped:
            heapq.heappop(self._heap)
            self._dropped -= 1
        return self._heap[0][3] if self._heap else None

    def fire(self, due: Due) -> None:
        """Wake one, which waits no more."""
        due.fired = True
        self.drop(due)
        due.wake()

    def drop(self, due: Due) -> None:
        """It waits no more. Harmless when repeated."""
        if due.dropped:
            return
        due.dropped = True
        self._dropped += 1
        if self._dropped > KEPT_DROPPED and self._dropped * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if not entry[3].dropped]
            heapq.heapify(self._heap)
            self._dropped = 0


def grained(moment: float) -> float:
    """The next moment of the grain."""
    return math.ceil(moment / GRAIN) * GRAIN
