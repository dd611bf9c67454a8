"""What one `modal.Queue` holds: partitions, each first in, first out. Pure: `now` is always told.

The limits are those of the docstring of the client's `Queue`. A partition without items is none.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Self, cast

from emulator.storage.rows import unheard

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from emulator.storage.rows import Changed, Key, Rows, Value

MAX_PARTITIONS = 100_000
MAX_ITEMS = 5000
"""Of one partition."""
MAX_BYTES = 64 << 20
"""Of one partition."""


class QueueFullError(Exception):
    """There is no room for what was to be put: nothing of it was."""


class Item(NamedTuple):
    entry_id: int
    """Grows from item to item of a Queue."""
    value: bytes


@dataclass(frozen=True)
class Taken:
    """Items that were taken out, and may have to be put back."""

    items: Sequence[Item] = ()
    expires_at: float = 0.0
    """Of the partition that they were in."""


@dataclass(eq=False)
class Partition:
    expires_at: float
    """Seconds since the epoch."""
    items: deque[Item] = field(default_factory=deque)
    size: int = 0
    """Bytes of all values."""


class QueueContents:
    """Partitions by key. Rows: `(partition,) -> (expires_at,)` and `(partition, entry_id) -> (value,)`."""

    def __init__(self) -> None:
        self.changed: Changed = unheard
        self._partitions: dict[bytes, Partition] = {}
        self._last_id = 0

    @classmethod
    def from_rows(cls, rows: Rows) -> Self:
        """What these rows tell of, in whatever order they come."""
        made = cls()
        for key, row in sorted(rows, key=lambda pair: (len(pair[0]), pair[0][-1])):
            partition = cast("bytes", key[0])
            if len(key) == 1:
                made._partitions[partition] = Partition(cast("float", row[0]))
            elif partition in made._partitions:
                item = Item(cast("int", key[1]), cast("bytes", row[0]))
                made._append(made._partitions[partition], item)
                made._last_id = max(made._last_id, item.entry_id)
        return made

    def rows(self) -> Iterator[tuple[Key, Value]]:
        for key, partition in self._partitions.items():
            yield (key,), (partition.expires_at,)
            for item in partition.items:
                yield (key, item.entry_id), (item.value,)

    def put(self, key: bytes, values: Sequence[bytes], *, ttl: float, now: float) -> None:
        """All values, or none: raises `QueueFullError`. The partition lasts for `ttl` seconds from now on."""
        partition = self._living(key, now)
        self._check_room(partition, values, now)
        if not values:
            return
        if partition is None:
            partition = self._partitions[key] = Partition(now + ttl)
        partition.expires_at = now + ttl
        self.changed((key,), (partition.expires_at,))
        for value in values:
            self._last_id += 1
            self._append(partition, Item(self._last_id, value))
            self.changed((key, self._last_id), (value,))

    def _check_room(self, partition: Partition | None, values: Sequence[bytes], now: float) -> None:
        count, size = (len(partition.items), partition.size) if partition is not None else (0, 0)
        if count + len(values) > MAX_ITEMS:
            raise QueueFullError(f"a partition holds up to {MAX_ITEMS:,} items: {count:,} are there")
        if size + sum(len(value) for value in values) > MAX_BYTES:
            raise QueueFullError(f"a partition holds up to {MAX_BYTES >> 20} MiB: {size / (1 << 20):.1f} are there")
        if partition is None and len(self._partitions) >= MAX_PARTITIONS and self.partitions(now) >= MAX_PARTITIONS:
            raise QueueFullError(f"a Queue holds up to {MAX_PARTITIONS:,} partitions")

    def take(self, key: bytes, count: int, now: float) -> Taken:
        """Up to `count` of the items that have been there longest."""
        partition = self._living(key, now)
        if partition is None:
            return Taken()
        items = [partition.items.popleft() for _ in range(min(count, len(partition.items)))]
        for item in items:
            partition.size -= len(item.value)
            self.changed((key, item.entry_id), None)
        if not partition.items:
            self._forget(key)
        return Taken(items, partition.expires_at)

    def put_back(self, key: bytes, taken: Taken, now: float) -> None:
        """Items that nobody has got are where they were, unless their partition has expired meanwhile."""
        if not taken.items or taken.expires_at <= now:
            return
        partition = self._living(key, now)
        if partition is None:
            partition = self._partitions[key] = Partition(taken.expires_at)
            self.changed((key,), (taken.expires_at,))
        behind = list(partition.items)
        partition.items, partition.size = deque(), 0
        for item in sorted([*taken.items, *behind]):
            self._append(partition, item)
        for item in taken.items:
            self.changed((key, item.entry_id), (item.value,))

    def after(self, key: bytes, entry_id: int, now: float) -> list[Item]:
        """Items that came after that one, which stay."""
        partition = self._living(key, now)
        return [item for item in partition.items if item.entry_id > entry_id] if partition is not None else []

    def count(self, key: bytes, now: float) -> int:
        partition = self._living(key, now)
        return len(partition.items) if partition is not None else 0

    def total(self, now: float) -> int:
        """Items of all partitions."""
        return sum(self.count(key, now) for key in list(self._partitions))

    def partitions(self, now: float) -> int:
        """How many there are."""
        return sum(self._living(key, now) is not None for key in list(self._partitions))

    def clear(self, key: bytes) -> None:
        partition = self._partitions.get(key)
        if partition is None:
            return
        for item in partition.items:
            self.changed((key, item.entry_id), None)
        self._forget(key)

    def clear_all(self) -> None:
        for key in list(self._partitions):
            self.clear(key)

    def _living(self, key: bytes, now: float) -> Partition | None:
        partition = self._partitions.get(key)
        if partition is not None and partition.expires_at <= now:
            self.clear(key)
            return None
        return partition

    def _forget(self, key: bytes) -> None:
        del self._partitions[key]
        self.changed((key,), None)

    @staticmethod
    def _append(partition: Partition, item: Item) -> None:
        partition.items.append(item)
        partition.size += len(item.value)
