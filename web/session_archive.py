"""Sessions whose time has come: each becomes an object of the bucket, for people, and then its item goes.

The object is JSON, as `archived` makes it, and named by `archive_name`: one for each session, whoever archives it and
however often. S3 removes it after `state.archive_days`.
"""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING

import orjson

from infra.aws import ConditionFailed, ObjectMissing, StateUnavailable
from infra.blueprint import ARCHIVES
from infra.table import Add, Delete
from infra.together import for_each
from web.session_items import COUNTED_BY, DUE, counter_key, expired, key_of, number, to_session

if TYPE_CHECKING:
    from infra.table import Bucket, Condition, Item, Key, Table
    from web.clock import Clock
    from web.sessions import Session, SessionKey

PORTION = 64
"""Sessions that one portion of the job looks at…"""
AT_ONCE = 8
"""… and of them at once."""
LATER = 86400.0
"""Seconds after which one is looked at again that could not be archived."""

log = logging.getLogger(__name__)


def archive_name(key: SessionKey, *, token: str = "", version: int = 0) -> str:
    """Of the archive of a session at its last version; with no `token`, how the names of all archives of its owner's
    sessions by that id begin."""
    owner, name = (hashlib.sha256(part.encode()).hexdigest()[:32] for part in (key.owner, key.id))
    return f"{ARCHIVES}sessions/{owner}/{name}/" + (f"{token}-{version}.json" if token else "")


def archived(session: Session, *, now: float) -> bytes:
    """What is kept of a session: all that its export tells, and whose it was. Times are whole seconds."""
    return orjson.dumps({
        "object": "session.archive", "format": 1, "owner": session.key.owner, "id": session.key.id,
        "title": session.title, "model": session.model, "created_at": int(session.created_at),
        "last_used_at": int(session.used_at), "expired_at": int(session.expires_at), "archived_at": int(now),
        "messages": session.history(),
    })  # fmt: skip


async def read_body(item: Item, bucket: Bucket) -> bytes:
    """Of a session's item. Raises ObjectMissing, StateUnavailable."""
    return await bucket.get(item["at"]) if "at" in item else bytes(item["body"])


class SessionArchive:
    """Every method raises StateUnavailable."""

    def __init__(self, table: Table, bucket: Bucket, *, clock: Clock, keep: bool = True) -> None:
        """`keep`: whether there is to be an archive; else what has expired is just removed."""
        self._table = table
        self._bucket = bucket
        self._clock = clock
        self._keep = keep

    async def retire(self, key: Key) -> bool:
        """Archive a session if its time has come. Whether its place is free now."""
        item = await self._table.get(key)
        if item is None:
            return True
        return expired(item, now=self._clock.time()) and await self._retire(key, item)

    async def retire_due(self) -> int:
        """A job: archive some of those whose time has come. How many it has dealt with."""
        keys = await self._table.due(DUE, before=self._clock.time(), limit=PORTION)
        return sum(await for_each(keys, self._deal_with, at_once=AT_ONCE))

    async def _deal_with(self, key: Key) -> bool:
        """Nobody else is to wait for one that cannot be archived: it comes last."""
        item = await self._table.get(key)
        if item is None or float(item["due_at"]) > self._clock.time():
            return False  # the index had not heard of it yet
        if not expired(item, now=self._clock.time()):
            return await self._postpone(key, item, until=float(item["leased_until"]))
        try:
            return await self._retire(key, item)
        except StateUnavailable:
            raise
        except Exception:
            log.exception("a session could not be archived, and is tried again in a day: %s", key)
            return await self._postpone(key, item, until=self._clock.time() + LATER)

    async def _retire(self, key: Key, item: Item) -> bool:
        """Whether it is gone now; else somebody has changed it meanwhile. May end anywhere, and be done again."""
        from boto3.dynamodb.conditions import Attr

        now = self._clock.time()
        try:
            body = await read_body(item, self._bucket)
        except ObjectMissing:
            if not await self._is_still(key, item):
                return False
            log.error("a session's object is gone, and so is what was said in it: %s", item["at"])
            body = None
        name = archive_name(key_of(key), token=item["token"], version=int(item["version"]))
        if self._keep and body is not None:
            await self._bucket.put(name, archived(to_session(key_of(key), item, body, now=now), now=now))
        same: Condition = Attr("write").eq(item["write"])
        if "turn" in item:  # whose container may have come back
            same &= Attr("leased_until").eq(item["leased_until"])
        try:
            await self._table.transact([Delete(key, same), Add(counter_key(key_of(key).owner), COUNTED_BY, -1)])
        except ConditionFailed:
            after = await self._table.get(key, attributes=("token", "write", "leased_until"))
            if after is not None and after["token"] == item["token"]:
                await self._bucket.delete(name)  # it lives on
            return after is None
        if "at" in item:
            await self._bucket.delete(item["at"])
        return True

    async def _is_still(self, key: Key, item: Item) -> bool:
        after = await self._table.get(key, attributes=("write",))
        return after is not None and after["write"] == item["write"]

    async def _postpone(self, key: Key, item: Item, *, until: float) -> bool:
        from boto3.dynamodb.conditions import Attr

        try:
            await self._table.update(key, set={"due_at": number(until)}, condition=Attr("write").eq(item["write"]))
        except ConditionFailed:
            return False
        return True
