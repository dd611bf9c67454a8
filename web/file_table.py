"""Records of files in the service's table: an item each, and one that counts an owner's bytes."""

from __future__ import annotations

import contextlib
import random
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from infra.aws import ConditionFailed, StateUnavailable
from infra.table import Add, Key, Put
from web.file_errors import FileNotFound, StorageFull
from web.files import File

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from infra.table import Item, Table, Write
    from web.clock import Clock

NOUN = "file"
COUNTED_BY = "bytes"
CONFLICTS = 8
"""How often a transaction is tried that comes in the way of another one."""
REMOVED_AFTER = 30 * 86400
"""Seconds after its end when DynamoDB itself removes a record, should no sweep have done it."""


def item_key(owner: str, file_id: str) -> Key:
    return Key(f"{NOUN}#{owner}", f"id#{file_id}")


def total_key(owner: str) -> Key:
    """Of the item that counts an owner's bytes, in its attribute `COUNTED_BY`."""
    return Key(f"{NOUN}#{owner}", "total")


class FilesInTable:
    """A `FileStore`. Opens nothing before it is used."""

    def __init__(self, table: Table, *, clock: Clock) -> None:
        self._table = table
        self._clock = clock

    async def begin(self, file: File, *, until: float) -> None:
        from boto3.dynamodb.conditions import Attr

        new = Attr("pk").not_exists() | Attr("state").eq("uploading")
        with contextlib.suppress(ConditionFailed):
            await self._table.put(to_item(file, due_at=until), condition=new)

    async def finish(self, file: File, *, most: int | None = None) -> None:
        from boto3.dynamodb.conditions import Attr

        new = Attr("pk").not_exists() | Attr("state").eq("uploading")
        below = None if most is None else most - file.size + 1
        if below is not None and below <= 0:
            raise StorageFull(most or 0)
        writes: list[Write] = [
            Put(to_item(file, due_at=file.expires_at), new),
            Add(total_key(file.owner), COUNTED_BY, file.size, below=below),
        ]
        for _ in range(CONFLICTS):
            try:
                await self._table.transact(writes)
            except ConditionFailed as error:
                if error.reasons[0] == "ConditionalCheckFailed":
                    kept = await self.load(file.owner, file.id)
                    if kept is not None and kept.state == "ready":
                        return  # an earlier try, whose answer was lost, or another worker's
                    raise FileNotFound(file.id) from None
                if error.reasons[1] == "ConditionalCheckFailed":
                    raise StorageFull(most or 0) from None
                await self._give_way()
            else:
                return
        raise StateUnavailable("a file's record: other transactions were always in the way")

    async def load(self, owner: str, file_id: str) -> File | None:
        item = await self._table.get(item_key(owner, file_id))
        return None if item is None else to_file(item)

    async def listed(
        self, owner: str, *, after: str | None = None, limit: int | None = None, newest_first: bool = True
    ) -> Sequence[File]:
        items = await self._table.query(
            f"{NOUN}#{owner}", prefix="id#", after=None if after is None else f"id#{after}", limit=limit,
            newest_first=newest_first,
        )  # fmt: skip
        return [to_file(item) for item in items]

    async def delete(self, file: File, *, until: float) -> None:
        from boto3.dynamodb.conditions import Attr

        for _ in range(CONFLICTS):
            item = await self._table.get(item_key(file.owner, file.id))
            if item is None or item["state"] != "ready":
                return
            gone = {**item, "state": "deleted", "due": NOUN, "due_at": _number(until), "ttl": _ttl(until)}
            counted = Add(total_key(file.owner), COUNTED_BY, -int(item["size"]))
            try:
                await self._table.transact([Put(gone, Attr("state").eq("ready")), counted])
            except ConditionFailed:
                await self._give_way()  # and see whether it was this or another one
            else:
                return
        raise StateUnavailable("a file's record: other transactions were always in the way")

    async def forget(self, file: File) -> None:
        from boto3.dynamodb.conditions import Attr

        try:
            await self._table.delete(item_key(file.owner, file.id), condition=Attr("state").ne("ready"))
        except ConditionFailed:
            return

    async def due(self, *, before: float, limit: int) -> Sequence[File]:
        found = []
        for key in await self._table.due(NOUN, before=before, limit=limit):
            item = await self._table.get(key)
            if item is not None and float(item.get("due_at", before + 1)) <= before:
                found.append(to_file(item))
        return found

    async def _give_way(self) -> None:
        await self._clock.sleep(random.uniform(0.01, 0.1))


def to_item(file: File, *, due_at: float | None) -> Item:
    item: Item = {
        **item_key(file.owner, file.id).item(), "filename": file.filename, "purpose": file.purpose,
        "size": file.size, "created_at": _number(file.created_at), "state": file.state,
    }  # fmt: skip
    if file.expires_at is not None:
        item["expires_at"] = _number(file.expires_at)
    if due_at is not None:
        item |= {"due": NOUN, "due_at": _number(due_at), "ttl": _ttl(due_at)}
    return item


def to_file(item: Mapping[str, Any]) -> File:
    expires = item.get("expires_at")
    return File(
        owner=item["pk"].partition("#")[2], id=item["sk"].partition("#")[2], filename=item["filename"],
        purpose=item["purpose"], size=int(item["size"]), created_at=float(item["created_at"]),
        expires_at=None if expires is None else float(expires), state=item["state"],
    )  # fmt: skip


def _number(seconds: float) -> Decimal:
    return Decimal(repr(float(seconds)))


def _ttl(due_at: float) -> int:
    return int(due_at) + REMOVED_AFTER
