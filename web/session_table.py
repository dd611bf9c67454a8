"""Sessions in DynamoDB, large ones in S3: they outlive every container, and all containers see the same.

A session is one item, so that each change is one conditional write. An owner's sessions are counted in an item of their
own, by the same transaction that makes or removes one. One whose time has come counts until it is archived, which
happens at the latest when its owner needs its place.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from typing import TYPE_CHECKING

from infra.aws import ConditionFailed, ObjectMissing, StateUnavailable
from infra.table import Add, Delete, Item, Put
from web.session_archive import SessionArchive, read_body
from web.session_errors import SessionConflict, StoreUnavailable, TooManySessions
from web.session_items import (
    COUNTED_BY,
    INLINE_BYTES,
    LIFE,
    LISTED,
    body_of,
    counter_key,
    expired,
    id_of,
    item_key,
    lease_over,
    number,
    object_name,
    partition,
    to_item,
    to_listed,
    to_session,
)
from web.sessions import SessionKey
from web.waiters import Waiters

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from typing import TypeVar

    from infra.table import Bucket, Table
    from web.clock import Clock
    from web.sessions import Listed, Session

    Answer = TypeVar("Answer")

log = logging.getLogger(__name__)

LEASE_SECONDS = 60.0
"""How long a turn lasts without a sign of life of the container that works on it."""
LOOK_SECONDS = 2.0
"""How often who waits for another container's turn looks whether it has ended."""
RENEW_SECONDS = 10.0
"""How often a turn's container renews its lease, and sees whether the session was deleted by another one: each time is
a call, and most turns are shorter."""
CONFLICTS = 8
"""How often a transaction is tried that others come before."""


class SessionsInTable:
    """For one event loop; opens nothing before it is used. Besides what a `SessionStore` raises, every method raises
    StoreUnavailable."""

    def __init__(self, table: Table, bucket: Bucket, *, clock: Clock, archive: bool = True) -> None:
        """`archive`: whether sessions whose time has come are archived; else they are removed."""
        self._table = table
        self._bucket = bucket
        self._clock = clock
        self._archive = SessionArchive(table, bucket, clock=clock, keep=archive)
        self._waiters: Waiters[SessionKey] = Waiters()
        self._turns: dict[SessionKey, str] = {}
        """Those that this process works on, and whose leases it renews."""
        self._writes = 0

    async def load(self, key: SessionKey) -> Session | None:
        for _ in range(CONFLICTS):
            item = await _told(self._table.get(item_key(key)))
            if item is None or expired(item, now=self._clock.time()):
                return None
            try:
                body = await _told(read_body(item, self._bucket))
            except ObjectMissing:
                continue  # another version was put in its place meanwhile: that has its own
            return to_session(key, item, body, now=self._clock.time())
        log.error("a session's object is gone: %s", item_key(key))
        raise StoreUnavailable

    async def create(self, session: Session, *, most: int) -> None:
        item = await self._prepare(session)
        try:
            await self._create(session, item, most)
        except (SessionConflict, TooManySessions):
            await self._discard(item)
            raise
        self._changed(session)

    async def save(self, session: Session) -> None:
        item = await self._prepare(session)
        try:
            before = await self._put(session, item)
        except SessionConflict:
            await self._discard(item)
            raise
        self._changed(session)
        await self._discard(before)

    async def delete(self, key: SessionKey, *, only: Session | None = None) -> None:
        from boto3.dynamodb.conditions import Attr

        tried: Item | None = None
        for _ in range(CONFLICTS):
            item = await _told(self._table.get(item_key(key), attributes=("token", "version", "write", "at")))
            if item is None or (only is not None and (item["token"], item["version"]) != (only.token, only.version)):
                # It is gone: maybe by a try of ours whose answer was lost.
                await self._discard(tried if item is None else None)
                break
            tried = item
            counted = Add(counter_key(key.owner), COUNTED_BY, -1)
            try:
                await _told(self._table.transact([Delete(item_key(key), Attr("write").eq(item["write"])), counted]))
            except ConditionFailed:
                continue  # it was changed, or deleted, meanwhile
            await self._discard(item)
            break
        else:
            raise StoreUnavailable
        self._turns.pop(key, None)
        self._waiters.tell(key)

    async def listed(self, owner: str) -> list[Listed]:
        now = self._clock.time()
        items = await _told(self._table.recent(partition(owner), attributes=LISTED))
        return [to_listed(item) for item in items if not expired(item, now=now)]

    async def changed(self, session: Session) -> None:
        with self._waiters.waiting(session.key) as told:
            # What we have just written ourselves we need not look at.
            kept = self._is_our_turn(session) or await self._is_kept(session)
            while kept and not told.done():
                try:
                    async with self._clock.timeout(RENEW_SECONDS if self._is_our_turn(session) else LOOK_SECONDS):
                        await asyncio.shield(told)
                except TimeoutError:
                    kept = await self._is_kept(session)

    async def _prepare(self, session: Session) -> Item:
        """The item that is to be written; a large body lies in the bucket by then."""
        self._writes += 1
        write, body = secrets.token_hex(8), body_of(session)
        where: bytes | str = body
        if len(body) > INLINE_BYTES:
            where = object_name(session, write)
            await _told(self._bucket.put(where, body, of=item_key(session.key)))
        used = f"{round(self._clock.time() * 1000):015d}.{self._writes:09d}"
        lease = self._clock.time() + LEASE_SECONDS
        return to_item(session, write=write, used=used, leased_until=lease, body=where)

    async def _create(self, session: Session, item: Item, most: int) -> None:
        from boto3.dynamodb.conditions import Attr

        for _ in range(CONFLICTS):
            counted = Add(counter_key(session.key.owner), COUNTED_BY, 1, below=most)
            try:
                await _told(self._table.transact([Put(item, Attr("pk").not_exists()), counted]))
            except ConditionFailed as error:
                if error.reasons[0] == "ConditionalCheckFailed":
                    if await self._is_ours(session, item):
                        return
                    if not await _told(self._archive.retire(item_key(session.key))):
                        raise SessionConflict from None
                else:
                    await self._make_room(session.key.owner, most)
            else:
                return
        raise StoreUnavailable

    async def _put(self, session: Session, item: Item) -> Item | None:
        """The item in whose place it was put, where that is known."""
        from boto3.dynamodb.conditions import Attr

        last = Attr("token").eq(session.token) & Attr("version").eq(session.version - 1)
        living = Attr("turn").exists() | Attr("expires_at").gt(number(self._clock.time()))
        try:
            return await _told(self._table.put(item, condition=last & living))
        except ConditionFailed:
            if not await self._is_ours(session, item):
                raise SessionConflict from None
            return None

    async def _is_ours(self, session: Session, item: Item) -> bool:
        """Whether what is kept is what we have just written: the answer to it was lost, and a second try refused."""
        kept = await _told(self._table.get(item_key(session.key), attributes=("write",)))
        return kept is not None and kept["write"] == item["write"]

    async def _make_room(self, owner: str, most: int) -> None:
        """Archive as many of an owner's sessions as it takes to have one more. Raises TooManySessions."""
        from boto3.dynamodb.conditions import Attr

        counter = counter_key(owner)
        kept = await _told(self._table.get(counter))
        now = self._clock.time()
        items = await _told(self._table.recent(partition(owner), attributes=LIFE))
        living = [item for item in items if not expired(item, now=now)]
        if len(living) >= most:
            raise TooManySessions(most, retry_after=max(0.0, min(float(item["expires_at"]) for item in living) - now))
        over = [item for item in items if expired(item, now=now)][: max(0, len(items) - most + 1)]
        for item in over:
            await _told(self._archive.retire(item_key(SessionKey(owner, id_of(item)))))
        if kept is not None and not over:  # what DynamoDB itself has removed was not counted
            try:
                same = Attr(COUNTED_BY).eq(kept[COUNTED_BY])
                await _told(self._table.update(counter, set={COUNTED_BY: len(items)}, condition=same))
            except ConditionFailed:
                pass  # somebody made or deleted one meanwhile

    async def _is_kept(self, session: Session) -> bool:
        """Whether that is, as far as anybody can tell, still what is kept. Renews the lease of our own turn."""
        looked_at = ("token", "version", "turn", "leased_until")
        try:
            if self._is_our_turn(session):
                return await self._renew(session)
            item = await self._table.get(item_key(session.key), attributes=looked_at)
        except StateUnavailable as error:
            log.warning("a session could not be looked at: %s", error)
            return True
        if item is None or (item["token"], item["version"]) != (session.token, session.version):
            return False
        return session.turn is None or not lease_over(item, now=self._clock.time())

    def _is_our_turn(self, session: Session) -> bool:
        return session.turn is not None and self._turns.get(session.key) == session.turn

    async def _renew(self, session: Session) -> bool:
        from boto3.dynamodb.conditions import Attr

        ours = Attr("token").eq(session.token) & Attr("turn").eq(session.turn)
        until = number(self._clock.time() + LEASE_SECONDS)
        try:
            await self._table.update(item_key(session.key), set={"leased_until": until}, condition=ours)
        except ConditionFailed:
            return False
        return True

    async def _discard(self, item: Item | None) -> None:
        """Remove the object of an item that is surely kept no longer."""
        if item is not None and "at" in item:
            try:
                await self._bucket.delete(item["at"])
            except StateUnavailable as error:
                log.warning("an object of a session was left behind: %s", error)

    def _changed(self, session: Session) -> None:
        if session.turn is not None:
            self._turns[session.key] = session.turn
        else:
            self._turns.pop(session.key, None)
        self._waiters.tell(session.key)


async def _told(work: Awaitable[Answer]) -> Answer:
    """Its answer. The operator is told in the log why the state cannot be reached, the caller that it cannot be."""
    try:
        return await work
    except StateUnavailable as error:
        log.error("the sessions cannot be reached: %s", error)
        raise StoreUnavailable from error
