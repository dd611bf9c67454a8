"""Usage in the service's table: the rows of `infra.usage`, and who there are rows of.

    usage#<account>   <day>#<model>#<writer>    a row; the base, whose writer is empty, comes before a slot's others
    usage             <account>                 that there are rows of this account, and the key's name

A row is written whole, under the condition that it is not folded yet and no later version is there: so a write whose
answer was lost may be done again, one that was delayed does no harm, and a container that writes behind a compaction
is told what was folded. Everything goes by its `ttl`.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from infra.aws import ConditionFailed
from infra.table import Change, Key, Put
from infra.usage import BASE, DAY_SECONDS, Amounts, Row, Slot, fold, midnight_after

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from infra.table import Condition, Item, Table, Write

NOUN = "usage"
MOST_AT_ONCE = 25
"""Writes in one transaction: fewer than DynamoDB would take, since a conflict of one is paid for all."""
MOST_FOLDED = MOST_AT_ONCE - 1
FOLD_AFTER_SECONDS = 3600
"""After the end of a day: later writes of it are rare then, and do no harm."""
MARKED_SECONDS = 7 * DAY_SECONDS
"""How long a folded row stays, for its writer to find out. No writer tries for longer (`web.usage_book`)."""
MOST_DUE = 1000
"""Rows that are looked for at once."""


class UsageTable:
    """For one event loop. Every method raises StateUnavailable."""

    def __init__(self, table: Table, *, keep_days: int) -> None:
        self._table = table
        self._keep_seconds = keep_days * DAY_SECONDS
        self._told: dict[str, str] = {}
        """Accounts that the table knows of, and until which day."""

    async def write(self, rows: Sequence[Row]) -> dict[Row, Row | None]:
        """Put rows in the place of their earlier versions. Returns those that were refused, with what is there: which
        was folded, or is a later version (or, gone meanwhile, None). Doing it again does no harm; where it raises, some
        may have been written."""
        last = {row.slot.account: row for row in sorted(rows, key=lambda row: row.slot.day)}
        heads = [row for account, row in last.items() if self._told.get(account, "") < row.slot.day]
        writes: list[tuple[Write, Row | None]] = [(self._head(row), None) for row in heads]
        writes += [(Put(self._item(row), self._writable(row)), row) for row in rows]
        refused: dict[Row, Row | None] = {}
        for start in range(0, len(writes), MOST_AT_ONCE):
            refused |= await self._write(writes[start : start + MOST_AT_ONCE])
        self._told |= {row.slot.account: row.slot.day for row in heads}
        return refused

    async def rows(self, account: str, *, since: str, until: str) -> list[Row]:
        """All rows of an account, from one day to another, both included: in the order that `totals` asks for."""
        same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(since, until, strict=True))
        prefix = "".join(one for one, _ in same)
        items = await self._table.query(f"{NOUN}#{account}", prefix=prefix, after=since)
        return [row for row in map(_row, items) if row.slot.day <= until]

    async def accounts(self) -> dict[str, str | None]:
        """Who there is usage of, and the name of the key."""
        return {item["sk"]: item.get("name") for item in await self._table.query(NOUN)}

    async def compact(self, *, now: float) -> int:
        """Fold rows of days that have ended, some of them; how many. Several may do it at once, at any time: who is
        in another's way leaves the rows to it, or to the next time."""
        keys = await self._table.due(NOUN, before=now, limit=MOST_DUE)
        return sum([await self._fold(slot, now=now) for slot in sorted({_slot(key.pk, key.sk) for key in keys})])

    async def _fold(self, slot: Slot, *, now: float) -> int:
        """Fold a slot's rows; how many."""
        count = 0
        while True:
            items = await self._table.query(f"{NOUN}#{slot.account}", prefix=f"{slot.day}#{slot.model}#")
            step = fold(map(_row, items), most=MOST_FOLDED)
            if step is None:
                return count
            base = Put(self._item(step.base), _unchanged(step.base.version - 1))
            gone = {"ttl": int(now) + MARKED_SECONDS}
            marks = [
                Change(_key(row), {"folded": row.folded, **gone}, ("due", "due_at"), _unfolded() & _is(row.version))
                for row in step.folded
            ]
            try:
                await self._table.transact([base, *marks])
            except ConditionFailed:
                return count
            count += len(marks)

    async def _write(self, writes: list[tuple[Write, Row | None]]) -> dict[Row, Row | None]:
        if len(writes) > 1:
            try:
                await self._table.transact([write for write, _ in writes])
            except ConditionFailed:
                pass  # one of them: each by itself
            else:
                return {}
        refused: dict[Row, Row | None] = {}
        for write, row in writes:
            assert isinstance(write, Put)
            try:
                await self._table.put(write.item, condition=write.condition)
            except ConditionFailed:
                assert row is not None
                found = await self._table.get(_key(row))
                refused[row] = None if found is None else _row(found)
        return refused

    def _head(self, row: Row) -> Put:
        return Put({"pk": NOUN, "sk": row.slot.account, "name": row.name, **self._lasting(row.slot.day)})

    def _item(self, row: Row) -> Item:
        item = {**_key(row).item(), **dict(zip(_NAMES, row.amounts, strict=True)), "version": row.version}
        item |= self._lasting(row.slot.day)
        if row.writer != BASE:
            item |= {"due": NOUN, "due_at": midnight_after(row.slot.day) + FOLD_AFTER_SECONDS}
        return item

    def _lasting(self, day: str) -> Mapping[str, int]:
        return {"ttl": midnight_after(day) + self._keep_seconds}

    def _writable(self, row: Row) -> Condition:
        from boto3.dynamodb.conditions import Attr

        return _unfolded() & (Attr("version").not_exists() | Attr("version").lte(row.version))


_NAMES = Amounts._fields


def _unfolded() -> Condition:
    from boto3.dynamodb.conditions import Attr

    return Attr("folded").not_exists()


def _is(version: int) -> Condition:
    from boto3.dynamodb.conditions import Attr

    return Attr("version").eq(version)


def _unchanged(version: int) -> Condition:
    from boto3.dynamodb.conditions import Attr

    return Attr("pk").not_exists() if version == 0 else _is(version)


def _key(row: Row) -> Key:
    return Key(f"{NOUN}#{row.slot.account}", f"{row.slot.day}#{row.slot.model}#{row.writer}")


def _slot(pk: str, sk: str) -> Slot:
    day, model, _ = sk.split("#")
    return Slot(pk.removeprefix(f"{NOUN}#"), day, model)


def _row(item: Item) -> Row:
    slot = _slot(item["pk"], item["sk"])
    amounts = Amounts(*(int(item.get(name, 0)) for name in _NAMES))
    writer = item["sk"].rpartition("#")[2]
    return Row(slot, writer, amounts, version=int(item["version"]), folded=int(item.get("folded", 0)))
