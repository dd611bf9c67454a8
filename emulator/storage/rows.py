"""The form in which what Dicts and Queues hold is kept: rows of plain values, and word of each that changes.

What users put there stays the bytes that their client has made of it: nothing here unpickles anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

Key = tuple[bytes | float, ...]
Value = tuple[bytes | float, ...]
"""Of bytes, whole numbers and floating ones."""
Rows = Iterable[tuple[Key, Value]]
Changed = Callable[[Key, Value | None], None]
"""Called for each row that is new or replaced, and with `None` for one that is gone."""


def unheard(_key: Key, _value: Value | None) -> None:
    """Who listens when nobody does."""
