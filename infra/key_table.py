"""API keys in the service's table.

A key is an item of the partition `keys`, by its id, which is what is listed and changed; and for each of its secrets an
item by the secret's SHA-256, which is what a request's key is looked up by. All of them hold the whole record and are
written by one transaction.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
from typing import TYPE_CHECKING

from pydantic import ValidationError

from infra.aws import ConditionFailed, StateUnavailable
from infra.key_records import KEY_ID, KeyRecord
from infra.key_store import KeyChanged
from infra.keys import PREFIX
from infra.table import Change, Delete, Key, Put

if TYPE_CHECKING:
    from collections.abc import Callable

    from infra.table import Condition, Item, Table, Write

PARTITION = "keys"
REVOKED_FOR = 90 * 86400
"""Seconds for which a key that was revoked is still listed."""
FORMER_FOR = 86400
"""Seconds after which a former secret, which is accepted no longer, is removed as well."""
CONFLICTS = 8
"""How often a transaction is tried that comes in the way of another one."""


class KeysInTable:
    """A `KeyStore`. Opens nothing before it is used."""

    def __init__(self, table: Table, *, time: Callable[[], float]) -> None:
        """`time`: seconds since the epoch."""
        self._table = table
        self._time = time

    async def find(self, fingerprint: str) -> KeyRecord | None:
        item = await self._table.get(secret_key(fingerprint))
        return None if item is None else to_record(item)

    async def get(self, key_id: str) -> KeyRecord | None:
        if not KEY_ID.fullmatch(key_id):
            return None
        item = await self._table.get(listing_key(key_id))
        return None if item is None else to_record(item)

    async def page(self, *, after: str | None, limit: int) -> list[KeyRecord]:
        items = await self._table.query(
            PARTITION, prefix="id#", after=None if after is None else f"id#{after}", limit=limit, newest_first=True
        )
        return [to_record(item) for item in items]

    async def create(self, record: KeyRecord) -> None:
        from boto3.dynamodb.conditions import Attr

        if not await self._write(record, None, Attr("pk").not_exists()):
            raise StateUnavailable(f"another key has the id {record.id}")

    async def replace(self, record: KeyRecord, *, was: KeyRecord) -> None:
        from boto3.dynamodb.conditions import Attr

        if not await self._write(record, was, Attr("version").eq(was.version)):
            raise KeyChanged(record.id)

    async def used(self, key_id: str, *, at: float) -> None:
        from boto3.dynamodb.conditions import Attr

        with contextlib.suppress(ConditionFailed):  # it is gone
            await self._table.update(listing_key(key_id), set={"used": int(at)}, condition=Attr("pk").exists())

    async def _write(self, record: KeyRecord, was: KeyRecord | None, condition: Condition) -> bool:
        """All of a key's items. Whether the condition on the listed one held."""
        now, write = self._time(), secrets.token_hex(8)
        key, told = listing_key(record.id), listing(record, write=write)
        writes: list[Write] = [
            Put({**key.item(), **told}, condition) if was is None else Change(key, told, condition=condition)
        ]
        known = record.fingerprints(now)
        writes += [Put(secret_item(record, one)) for one in known]
        before = {was.key, was.former} - {None, *known} if was is not None else set()
        writes += [Delete(secret_key(one)) for one in before if one is not None]
        for _ in range(CONFLICTS):
            try:
                await self._table.transact(writes)
            except ConditionFailed as error:
                if error.reasons[:1] == ("ConditionalCheckFailed",):
                    return await self._is_written(record, write)
                await asyncio.sleep(random.uniform(0.01, 0.1))
            else:
                return True
        raise StateUnavailable(f"the key {record.id} is being written by too many at once")

    async def _is_written(self, record: KeyRecord, write: str) -> bool:
        """Whether what is kept is what we have just written: the answer to it was lost, and a second try refused."""
        kept = await self._table.get(listing_key(record.id), attributes=("write",))
        return kept is not None and kept["write"] == write


def listing_key(key_id: str) -> Key:
    return Key(PARTITION, f"id#{key_id}")


def secret_key(fingerprint: str) -> Key:
    return Key(f"key#{fingerprint.removeprefix(PREFIX)}", "key")


def listing(record: KeyRecord, *, write: str) -> Item:
    """The attributes of the item that is listed. `write`: random, by which the writer knows its own again."""
    told = {"version": record.version, "write": write, "record": _body(record)}
    return told if record.revoked_at is None else {**told, "ttl": int(record.revoked_at) + REVOKED_FOR}


def secret_item(record: KeyRecord, fingerprint: str) -> Item:
    item = {**secret_key(fingerprint).item(), "record": _body(record)}
    if fingerprint != record.key:
        item["ttl"] = int(record.former_until) + FORMER_FOR
    return item


def to_record(item: Item) -> KeyRecord:
    """Raises StateUnavailable for what no version of the service that this one knows has written."""
    try:
        record = KeyRecord.model_validate_json(item["record"])
    except ValidationError as error:
        raise StateUnavailable(f"the item {item['pk']} {item['sk']} is not a key: {error}") from None
    return record.model_copy(update={"last_used_at": float(item["used"])}) if "used" in item else record


def _body(record: KeyRecord) -> str:
    return record.model_dump_json(exclude={"last_used_at"}, exclude_none=True)
