"""What was used of a budget in the last minute: a sliding window, exact up to what is said at `Window`. Pure."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

MINUTE = 60.0
MOST_SLOTS = 128
"""Uses that are told apart in one window; a larger budget counts uses that come close together as one."""


@dataclass(slots=True)
class Slot:
    """Uses that end together: `amount` of them counts until `until`. `begun`: when the first of them came."""

    begun: float
    until: float
    amount: int


class Window:
    """A budget of `limit` in any minute.

    Never more than `limit` is let through in any window of 60 s, wherever it begins. Up to a limit of 128 every use
    counts for exactly 60 s; above it, uses within 60/128 s of each other count until the last of them is a minute old,
    so that a window's memory is bounded whatever its limit. `limit` may be changed: what was used counts on. `now`:
    seconds that never go backwards.
    """

    __slots__ = ("_grain", "_slots", "limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._grain = MINUTE / MOST_SLOTS if limit > MOST_SLOTS else 0.0
        self._slots: deque[Slot] = deque()
        self.used = 0
        """As far as it was looked at: see `uses`."""

    def standing(self, now: float) -> tuple[int, float]:
        """What remains, and seconds until nothing counts any more."""
        slots = self._slots
        if slots and slots[0].until <= now:
            self._forget(now)
        return max(0, self.limit - self.used), slots[-1].until - now if slots else 0.0

    def uses(self, now: float) -> list[tuple[float, int]]:
        """Until when how much counts, the first to go first. `used` is their sum then."""
        self._forget(now)
        return [(slot.until, slot.amount) for slot in self._slots]

    def room_in(self, amount: int, now: float) -> float:
        """Seconds until `amount` fits if nobody else takes any: 0 if it does now, infinite if it never will."""
        if amount > self.limit:
            return math.inf
        slots = self._slots
        if slots and slots[0].until <= now:
            self._forget(now)
        if self.used + amount <= self.limit:
            return 0.0
        missing, wait = self.used + amount - self.limit, 0.0
        for slot in self._slots:
            if missing <= 0:
                break
            missing -= slot.amount
            wait = slot.until - now
        return wait

    def add(self, amount: int, now: float) -> Slot:
        """Use `amount`, whether it fits or not. The slot that it counts in."""
        slots = self._slots
        if slots and slots[0].until <= now:
            self._forget(now)
        if slots and now - slots[-1].begun < self._grain:
            slot = slots[-1]
            slot.until = now + MINUTE
            slot.amount += amount
        else:
            slot = Slot(now, now + MINUTE, amount)
            slots.append(slot)
        self.used += amount
        return slot

    def give_back(self, slot: Slot, amount: int, now: float) -> None:
        """`amount` of what was added to `slot` was not used after all."""
        self._forget(now)
        if slot.until > now:
            slot.amount -= amount
            self.used -= amount

    def _forget(self, now: float) -> None:
        slots = self._slots
        while slots and slots[0].until <= now:
            self.used -= slots.popleft().amount
