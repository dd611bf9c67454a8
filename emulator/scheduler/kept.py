"""Which finished things are still kept: the latest, up to a number and a weight. Pure."""

from __future__ import annotations

from collections import OrderedDict


class Kept:
    """Keys in the order of their last use, with weights in bytes. The newest is kept whatever it weighs."""

    def __init__(self, *, count: int, weight: int) -> None:
        self._limit = count
        self._heaviest = weight
        self._weights: OrderedDict[str, int] = OrderedDict()
        self._total = 0

    def add(self, key: str, weight: int) -> list[str]:
        """Keep `key` as the newest; returns the keys that had to give way."""
        self.drop(key)
        self._weights[key] = weight
        self._total += weight
        dropped = []
        while len(self._weights) > 1 and (len(self._weights) > self._limit or self._total > self._heaviest):
            oldest = next(iter(self._weights))
            self.drop(oldest)
            dropped.append(oldest)
        return dropped

    def used(self, key: str) -> None:
        """It is the newest again, if it is there."""
        if key in self._weights:
            self._weights.move_to_end(key)

    def drop(self, key: str) -> None:
        self._total -= self._weights.pop(key, 0)
