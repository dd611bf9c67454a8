"""Batches in the service's table: an item each, and one that counts an owner's unfinished ones."""

from __future__ import annotations

import random
import zlib
from dataclasses import asdict
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import orjson

from infra.aws import ConditionFailed, StateUnavailable
from infra.table import Add, Key, Put
from web.batches import Batch, BatchConflict, BatchError, Tokens
from web.file_errors import TooManyBatches

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from infra.table import Condition, Item, Table, Write
    from web.clock import Clock

NOUN = "batch"
COUNTED_BY = "unfinished"
CONFLICTS = 8
"""How often a transaction is tried that comes in the way of another one."""
REMOVED_AFTER = 30 * 86400
"""Seconds after which DynamoDB removes a batch that is over, and nothing of which is left."""


def item_key(owner: str, batch_id: str) -> Key:
    return Key(f"{NOUN}#{owner}", f"id#{batch_id}")


def counter_key(owner: str) -> Key:
    """Of the item that counts an owner's unfinished batches, in its attribute `COUNTED_BY`."""
    return Key(f"{NOUN}#{owner}", "count")


class BatchesInTable:
    """A `BatchStore`. Opens nothing before it is used."""

    def __init__(self, table: Table, *, clock: Clock) -> None:
        self._table = table
        self._clock = clock

    async def create(self, batch: Batch, *, most: int) -> None:
        from boto3.dynamodb.conditions import Attr

        if not await self._counted(batch, Attr("pk").not_exists(), 1, below=most):
            raise TooManyBatches(most)

    async def load(self, owner: str, batch_id: str) -> Batch | None:
        item = await self._table.get(item_key(owner, batch_id))
        return None if item is None else to_batch(item)

    async def save(self, batch: Batch) -> None:
        try:
            await self._table.put(to_item(batch), condition=_follows(batch))
        except ConditionFailed:
            if not await self._is_ours(batch):
                raise BatchConflict from None

    async def end(self, batch: Batch) -> None:
        await self._counted(batch, _follows(batch), -1)

    async def listed(self, owner: str, *, after: str | None, limit: int) -> Sequence[Batch]:
        items = await self._table.query(
            f"{NOUN}#{owner}", prefix="id#", after=None if after is None else f"id#{after}", limit=limit,
            newest_first=True,
        )  # fmt: skip
        return [to_batch(item) for item in items]

    async def due(self, *, before: float, limit: int) -> Sequence[Batch]:
        items = [await self._table.get(key) for key in await self._table.due(NOUN, before=before, limit=limit)]
        found = [to_batch(item) for item in items if item is not None]
        return [batch for batch in found if not batch.swept and batch.leased_until <= before]

    async def _counted(self, batch: Batch, condition: Condition, amount: int, *, below: int | None = None) -> bool:
        """Write it, and count it or take it from the count. False: the count is at `below`. Raises BatchConflict."""
        writes: list[Write] = [
            Put(to_item(batch), condition),
            Add(counter_key(batch.owner), COUNTED_BY, amount, below=below),
        ]
        for _ in range(CONFLICTS):
            try:
                await self._table.transact(writes)
            except ConditionFailed as error:
                if error.reasons[0] == "ConditionalCheckFailed":
                    if await self._is_ours(batch):
                        return True
                    raise BatchConflict from None
                if error.reasons[1] == "ConditionalCheckFailed":
                    return False
                await self._clock.sleep(random.uniform(0.01, 0.1))  # another transaction was in the way
            else:
                return True
        raise StateUnavailable("a batch: other transactions were always in the way")

    async def _is_ours(self, batch: Batch) -> bool:
        """Whether what is kept is what was just written: the answer to it was lost, and a second try refused."""
        kept = await self._table.get(item_key(batch.owner, batch.id), attributes=("mark",))
        return kept is not None and kept["mark"] == batch.mark


def _follows(batch: Batch) -> Condition:
    from boto3.dynamodb.conditions import Attr

    return Attr("version").eq(batch.version - 1)


def to_item(batch: Batch) -> Item:
    """What conditions and indexes need are attributes; the rest is one compressed JSON object."""
    held = {name: value for name, value in asdict(batch).items() if name not in ("owner", "id", "done")}
    item: Item = {
        **item_key(batch.owner, batch.id).item(), "version": batch.version, "mark": batch.mark,
        "body": zlib.compress(orjson.dumps(held)), "done": zlib.compress(batch.done),
    }  # fmt: skip
    if batch.swept:
        item["ttl"] = int(batch.leased_until) + REMOVED_AFTER
    else:
        item |= {"due": NOUN, "due_at": Decimal(repr(float(batch.leased_until)))}
    return item


def to_batch(item: Mapping[str, Any]) -> Batch:
    held = orjson.loads(zlib.decompress(bytes(item["body"])))
    held["errors"] = tuple(BatchError(**error) for error in held["errors"])
    held["tokens"] = Tokens(**held["tokens"])
    held["workers"] = tuple((name, first) for name, first in held["workers"])
    return Batch(
        owner=item["pk"].partition("#")[2], id=item["sk"].partition("#")[2],
        done=zlib.decompress(bytes(item["done"])), **held,
    )  # fmt: skip
