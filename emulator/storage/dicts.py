"""What one `modal.Dict` holds: values by key, both as the bytes that clients send. Pure: `now` is always told.

An entry goes after 7 days in which it was neither read nor written (the docstring of the client's `Dict`).
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, cast

from emulator.storage.rows import unheard

if TYPE_CHECKING:
    from collections.abc import Iterator

    from emulator.storage.rows import Changed, Key, Rows, Value

LIFETIME = 7 * 24 * 3600.0
"""Seconds that an entry is there unused."""
TOLD_AGAIN = 3600.0
"""Seconds after which a use is told of for its own sake: what is kept of an entry's age is as exact as this."""


@dataclass(eq=False)
class Entry:
    value: bytes
    used_at: float
    """Seconds since the epoch."""
    told_at: float


class DictContents:
    """Entries in the order of their last use. A row: `(key,) -> (value, used_at)`."""

    def __init__(self) -> None:
        self.changed: Changed = unheard
        self._entries: OrderedDict[bytes, Entry] = OrderedDict()

    @classmethod
    def from_rows(cls, rows: Rows) -> Self:
        """What these rows tell of, in whatever order they come."""
        made = cls()
        for (key,), row in sorted(rows, key=lambda pair: pair[1][1]):
            value, used_at = cast("tuple[bytes, float]", row)
            made._entries[cast("bytes", key)] = Entry(value, used_at, used_at)
        return made

    def rows(self) -> Iterator[tuple[Key, Value]]:
        for key, entry in self._entries.items():
            yield (key,), (entry.value, entry.used_at)

    def get(self, key: bytes, now: float) -> bytes | None:
        entry = self._used(key, now)
        return entry.value if entry is not None else None

    def put(self, key: bytes, value: bytes, now: float, *, unless_there: bool = False) -> bool:
        """Whether it was put; it always is but with `unless_there` for a key that is, which is then left alone."""
        if unless_there and self._used(key, now) is not None:
            return False
        self._entries[key] = Entry(value, now, now)
        self._entries.move_to_end(key)
        self.changed((key,), (value, now))
        return True

    def pop(self, key: bytes, now: float) -> bytes | None:
        self._expire(now)
        entry = self._entries.pop(key, None)
        if entry is None:
            return None
        self.changed((key,), None)
        return entry.value

    def items(self, now: float) -> list[tuple[bytes, bytes]]:
        """All that is there, which counts as a use of each."""
        self._expire(now)
        return [(key, entry.value) for key in list(self._entries) if (entry := self._used(key, now)) is not None]

    def count(self, now: float) -> int:
        self._expire(now)
        return len(self._entries)

    def clear(self) -> None:
        for key in list(self._entries):
            del self._entries[key]
            self.changed((key,), None)

    def _used(self, key: bytes, now: float) -> Entry | None:
        self._expire(now)
        entry = self._entries.get(key)
        if entry is not None:
            entry.used_at = now
            self._entries.move_to_end(key)
            if now - entry.told_at >= TOLD_AGAIN:
                entry.told_at = now
                self.changed((key,), (entry.value, now))
        return entry

    def _expire(self, now: float) -> None:
        while self._entries:
            key, entry = next(iter(self._entries.items()))
            if now - entry.used_at < LIFETIME:
                return
            del self._entries[key]
            self.changed((key,), None)
