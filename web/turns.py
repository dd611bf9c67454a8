"""A queue of callers who take turns: each one's own requests in their order, nobody's before everybody's. Pure."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Turns(Generic[Item]):
    """Adding and taking cost the same whatever waits; `remove` and `before` look at what waits."""

    def __init__(self) -> None:
        self._lines: OrderedDict[str, deque[Item]] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, who: str, item: Item) -> None:
        """`who` waits with one more item, and for the first turn last of all."""
        self._lines.setdefault(who, deque()).append(item)
        self._size += 1

    def next(self) -> Item:
        """Take the item whose turn it is. Raises IndexError when nothing waits."""
        if not self._size:
            raise IndexError("nothing waits")
        who, line = next(iter(self._lines.items()))
        item = line.popleft()
        self._size -= 1
        if line:
            self._lines.move_to_end(who)
        else:
            del self._lines[who]
        return item

    def remove(self, who: str, item: Item) -> None:
        """Take back an item that waits."""
        line = self._lines[who]
        line.remove(item)
        self._size -= 1
        if not line:
            del self._lines[who]

    def before(self, who: str, item: Item) -> int:
        """How many items will be taken before this one, as things are."""
        own = self._lines[who].index(item)
        count, ahead = own, True
        for other, line in self._lines.items():
            if other == who:
                ahead = False
            else:
                count += min(len(line), own + ahead)
        return count
