"""Snapshots of metrics that are too large for one item of DynamoDB's (400 KB), in parts beside it.

    metrics#parts   <whose>#<write>#<n>     a part of what a row or the base holds, of one write of it

The parts of a write are there before the item that names them, and stay until another one has taken its place: whoever
reads an item and then its parts has that write whole, or finds it gone, and reads again.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from infra.table import Key

if TYPE_CHECKING:
    from infra.table import Item, Table

NOUN = "metrics#parts"
PART_BYTES = 256 * 1024
"""An item has its keys too, and the base its list of writers, of 30 bytes each."""


class Torn(Exception):
    """An item has been replaced since it was read."""


class Parts:
    """`size`: bytes in one item. Every method raises StateUnavailable."""

    def __init__(self, table: Table, *, size: int = PART_BYTES) -> None:
        self._table = table
        self._size = size

    async def put(self, whose: str, write: str, data: bytes, **more: Any) -> Item:
        """The attributes by which an item holds `data`: itself, or where its parts are. `write`: another one for other
        data. `more`: attributes of the parts."""
        if len(data) <= self._size:
            return {"data": data}
        pieces = [data[start : start + self._size] for start in range(0, len(data), self._size)]
        for key, piece in zip(_keys(whose, write, len(pieces)), pieces, strict=True):
            await self._table.put({**key.item(), "data": piece, **more})
        return {"write": write, "pieces": len(pieces)}

    async def get(self, whose: str, item: Item) -> bytes:
        """What an item holds. Raises Torn."""
        if "write" not in item:
            return bytes(item["data"])
        found = await self._table.query(NOUN, prefix=f"{whose}#{item['write']}#")
        if len(found) != item["pieces"]:
            raise Torn
        return b"".join([bytes(part["data"]) for part in found])

    async def forget(self, whose: str, item: Item | None, *, instead: Item | None = None) -> None:
        """The parts of `item` go, unless they are those of the one that is there `instead`."""
        if item is None or "write" not in item or (instead or {}).get("write") == item["write"]:
            return
        keys = _keys(whose, item["write"], int(item["pieces"]))
        await asyncio.gather(*(self._table.delete(key) for key in keys))


def _keys(whose: str, write: str, pieces: int) -> list[Key]:
    return [Key(NOUN, f"{whose}#{write}#{number:04d}") for number in range(pieces)]
