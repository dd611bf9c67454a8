"""The rows of `infra.metric_rows` in the service's table:

    metrics         base            what was folded, and of whom
    metrics         row#<writer>    a container's row
    metrics#gone    <writer>        which version of a removed row was folded, for a container that was not dead

What is too large for one item is in several (`infra.metric_parts`).
The base comes before the rows, so one query reads it first. A write costs one write unit for each KiB, a reading half
a read unit for each 4 KiB of all rows together, twice that since it is consistent.
"""

from __future__ import annotations

import asyncio
import secrets
from decimal import Decimal
from typing import TYPE_CHECKING

from infra.aws import ConditionFailed, StateUnavailable
from infra.metric_parts import PART_BYTES, Parts, Torn
from infra.metric_rows import Base, Reading, Row
from infra.metric_snapshots import pack, unpack
from infra.table import Key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infra.metric_snapshots import Snapshot
    from infra.table import Condition, Item, Table

NOUN = "metrics"
GONE = "metrics#gone"
BASE = Key(NOUN, "base")
ROW = "row#"
ROW_SECONDS = 30 * 86400
"""How long a row stays that nobody has folded: the housekeeping folds within the hour."""
GONE_SECONDS = 7 * 86400
PARTS_SECONDS = ROW_SECONDS + 7 * 86400
"""For longer than their row, since DynamoDB takes its time with what has expired."""
READ_TRIES = 5
"""Of those who read while rows in parts are written: each is written every few seconds, and read in a moment."""


class Superseded(Exception):
    """The row takes nothing more: it was taken for that of a dead container. `version`: which one of it was sealed;
    None: nobody knows any more."""

    def __init__(self, version: int | None) -> None:
        self.version = version
        super().__init__("the row is sealed")


class MetricsTable:
    """For one event loop. Every method raises StateUnavailable. Rows are packed and unpacked by threads: one takes some
    milliseconds at ten models, in which the loop has streams to serve."""

    def __init__(self, table: Table, *, part_bytes: int = PART_BYTES) -> None:
        """`part_bytes`: of a snapshot that one item holds at most."""
        self._table = table
        self._parts = Parts(table, size=part_bytes)

    async def write(self, row: Row, *, new: bool, again: bool = False) -> None:
        """Put a row in the place of its earlier version. `new`: no earlier one was written, as far as is known. Doing
        it `again`, since nobody knows whether it was done, does no harm. Raises Superseded."""
        from boto3.dynamodb.conditions import Attr

        if new and again:  # it may be there, and even gone again
            new = await self._sealed_version(row.writer) is None
        mine = Attr("sealed").not_exists() & Attr("version").lte(row.version)
        data = await asyncio.to_thread(pack, row.snapshot)
        ttl = int(row.written_at) + PARTS_SECONDS
        item = _item(row, await self._parts.put(row.writer, f"{row.version}", data, ttl=ttl))
        try:
            before = await self._table.put(item, condition=Attr("pk").not_exists() | mine if new else mine)
        except ConditionFailed:
            await self._not_put(row.writer, item)
            raise Superseded(await self._sealed_version(row.writer)) from None
        await self._parts.forget(row.writer, before, instead=item)

    async def read(self) -> Reading:
        """Raises ValueError for what is none of the service's."""
        for _ in range(READ_TRIES):
            items = await self._table.query(NOUN)
            try:
                data = await asyncio.gather(*(self._parts.get(_whose(item), item) for item in items))
            except Torn:
                continue
            return await asyncio.to_thread(_reading, items, data)
        raise StateUnavailable("the metrics were rewritten whenever they were read")

    async def fold(self, *, now: float) -> int:
        """Take the next steps with what is left of containers that are gone; how many there were. Any number may do it
        at once."""
        reading = await self.read()
        sealed = [row for row in reading.rows if row.sealed]
        for row in reading.to_seal(now):
            if await self._seal(row):
                sealed.append(row)
        steps = 0
        if (base := reading.fold(sealed, now)) is not None:
            if not await self._replace(base):
                return 0  # somebody else has folded meanwhile
            steps += len(base.folded.keys() - reading.base.folded.keys())
        for row in reading.to_remove(now):
            await self._remove(row, now)
            steps += 1
        return steps

    async def _seal(self, row: Row) -> bool:
        """Whether the row is sealed now, as it was read."""
        from boto3.dynamodb.conditions import Attr

        try:
            condition = Attr("version").eq(row.version)
            await self._table.update(_key(row.writer), set={"sealed": True}, condition=condition)
        except ConditionFailed:
            return False
        return True

    async def _replace(self, base: Base) -> bool:
        from boto3.dynamodb.conditions import Attr

        condition: Condition = Attr("version").eq(base.version - 1)
        if base.version == 1:
            condition = Attr("pk").not_exists()
        folded = {writer: _number(at) for writer, at in base.folded.items()}
        data = await asyncio.to_thread(pack, base.snapshot)
        held = await self._parts.put(BASE.sk, secrets.token_hex(8), data)
        item = {**BASE.item(), "version": base.version, "folded": folded, **held}
        try:
            before = await self._table.put(item, condition=condition)
        except ConditionFailed:
            await self._not_put(BASE.sk, item)
            return False
        await self._parts.forget(BASE.sk, before, instead=item)
        return True

    async def _not_put(self, whose: str, item: Item) -> None:
        """Or it was, by a try whose answer was lost: then its parts stay."""
        if "write" in item:
            there = await self._table.get(Key(item["pk"], item["sk"]), attributes=("write",))
            await self._parts.forget(whose, item, instead=there)

    async def _remove(self, row: Row, now: float) -> None:
        gone = {"pk": GONE, "sk": row.writer, "version": row.version, "ttl": int(now) + GONE_SECONDS}
        await self._table.put(gone)
        await self._parts.forget(row.writer, await self._table.delete(_key(row.writer)))

    async def _sealed_version(self, writer: str) -> int | None:
        for key in (_key(writer), Key(GONE, writer), _key(writer)):
            found = await self._table.get(key, attributes=("version",))
            if found is not None:
                return int(found["version"])
        return None


def _reading(items: Sequence[Item], snapshots: Sequence[bytes]) -> Reading:
    base, rows = Base(), []
    for item, data in zip(items, snapshots, strict=True):
        if item["sk"] == BASE.sk:
            folded = {writer: float(at) for writer, at in item["folded"].items()}
            base = Base(int(item["version"]), unpack(data), folded)
        else:
            rows.append(_row(item, unpack(data)))
    return Reading(base, rows)


def _whose(item: Item) -> str:
    return str(item["sk"]).removeprefix(ROW)


def _key(writer: str) -> Key:
    return Key(NOUN, ROW + writer)


def _item(row: Row, held: Item) -> Item:
    told = {
        "version": row.version, "written_at": _number(row.written_at), "interval": _number(row.interval),
        "ended": row.ended, "ttl": int(row.written_at) + ROW_SECONDS,
    }  # fmt: skip
    return {**_key(row.writer).item(), **told, **held}


def _row(item: Item, snapshot: Snapshot) -> Row:
    return Row(
        _whose(item), int(item["version"]), snapshot,
        written_at=float(item["written_at"]), interval=float(item["interval"]), ended=bool(item["ended"]),
        sealed="sealed" in item,
    )  # fmt: skip


def _number(value: float) -> Decimal:
    return Decimal(repr(float(value)))
