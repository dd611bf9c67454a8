"""What an ingress moves at this moment, for who wants to know whether it is quiet."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Moving:
    """Counts by what it is. What only waits for a function's container is not among it: that its calls tell."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    @contextmanager
    def one(self, what: str) -> Iterator[None]:
        """One of these is being moved while the context is open."""
        self._counts[what] += 1
        try:
            yield
        finally:
            self._counts[what] -= 1

    def lines(self) -> list[str]:
        """What there is, and how often."""
        return [f"{what} ({count})" for what, count in self._counts.items() if count]
