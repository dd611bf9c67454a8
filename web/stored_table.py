"""Responses and conversations in DynamoDB, large ones in S3: they outlive every container, and all see the same.

Each is one item. A response is written once, and again with the same content where an answer was lost, which changes
nothing. A conversation is claimed by a conditional update, which reads it as well, and settled by another, in one
transaction with the response that it was claimed for.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
from typing import TYPE_CHECKING

from infra.aws import ConditionFailed, ObjectMissing, StateUnavailable
from infra.table import Change, Item, Key, Put
from web.stored_errors import ConversationGone, ConversationLocked, ResponsesUnavailable
from web.stored_items import (
    DESCRIBED,
    INLINE_BYTES,
    conversation_body,
    conversation_item,
    expired,
    item_key,
    metadata_text,
    number,
    object_name,
    response_body,
    response_in,
    response_item,
    settled,
    to_conversation,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from typing import TypeVar

    from infra.table import Bucket, Condition, Table
    from web.clock import Clock
    from web.stored import Conversation, Json, StoredKey, StoredResponse
    from web.stored_items import Noun

    Answer = TypeVar("Answer")

log = logging.getLogger(__name__)

LEASE_SECONDS = 60.0
"""How long a turn lasts without a sign of life of the container that works on it."""
FRESH_SECONDS = 10.0
"""How long after an answer the table is taken to be there without being asked."""
PROBE = Key("response#", "probe")
"""No item has it: asking for it tells only whether the table answers."""


class ResponsesInTable:
    """For one event loop; opens nothing before it is used."""

    def __init__(self, table: Table, bucket: Bucket, *, clock: Clock) -> None:
        self._table = table
        self._bucket = bucket
        self._clock = clock
        self._answered: float | None = None
        """When the table last did what it was asked, on the clock's monotonic scale."""

    async def check(self) -> None:
        now = self._clock.monotonic()
        if self._answered is None or now - self._answered > FRESH_SECONDS:
            await self._told(self._table.get(PROBE, attributes=("pk",), consistent=False))

    async def load(self, key: StoredKey) -> StoredResponse | None:
        item = await self._item("response", key)
        if item is None:
            return None
        try:
            body = await self._read(item)
        except ObjectMissing:
            return None  # it was deleted meanwhile
        return response_in(key, body, expires_at=float(item["expires_at"]))

    async def keep(self, response: StoredResponse) -> None:
        where = await self._place("response", response.key, response_body(response))
        await self._told(self._table.put(response_item(response, where)))

    async def delete(self, key: StoredKey) -> bool:
        return await self._delete("response", key)

    async def create(self, conversation: Conversation) -> None:
        where = await self._place("conversation", conversation.key, conversation_body(conversation))
        await self._told(self._table.put(conversation_item(conversation, where)))

    async def conversation(self, key: StoredKey, *, with_items: bool = True) -> Conversation | None:
        while (item := await self._item("conversation", key, attributes=() if with_items else DESCRIBED)) is not None:
            try:
                return to_conversation(key, item, await self._read(item) if with_items else None)
            except ObjectMissing:
                continue  # other items were put in their place meanwhile
        return None

    async def claim(self, key: StoredKey, turn: str) -> Conversation | None:
        from boto3.dynamodb.conditions import Attr

        now = self._clock.time()
        free = Attr("turn").not_exists() | Attr("leased_until").lte(number(now)) | Attr("turn").eq(turn)
        claimed = {"turn": turn, "leased_until": number(now + LEASE_SECONDS)}
        try:
            item = await self._told(
                self._table.update(item_key("conversation", key), set=claimed, condition=self._living() & free)
            )
        except ConditionFailed:
            if await self._item("conversation", key, attributes=DESCRIBED) is None:
                return None
            raise ConversationLocked from None
        try:
            return to_conversation(key, item, await self._read(item))
        except (ObjectMissing, ResponsesUnavailable) as error:
            await self.release(key, turn)
            raise ResponsesUnavailable from error

    async def renew(self, key: StoredKey, turn: str) -> None:
        until = number(self._clock.time() + LEASE_SECONDS)
        await self._change_own(key, turn, changed={"leased_until": until})

    async def release(self, key: StoredKey, turn: str) -> None:
        await self._change_own(key, turn, removed=("turn", "leased_until"))

    async def settle(self, conversation: Conversation, *, response: StoredResponse | None = None) -> None:
        write = secrets.token_hex(8)
        where = await self._place("conversation", conversation.key, conversation_body(conversation))
        answered: bytes | str = b""
        if response is not None:
            answered = await self._place("response", response.key, response_body(response))
        changed, stale = settled(conversation, where)
        change = Change(
            item_key("conversation", conversation.key), {**changed, "write": write}, stale, self._held_by(conversation)
        )
        kept = () if response is None else (Put({**response_item(response, answered), "write": write}),)
        # The response stays as it is, while others may have settled the conversation since.
        witness = change.key if response is None else item_key("response", response.key)
        try:
            await self._told(self._table.transact([change, *kept]))
        except ConditionFailed:
            if not await self._is_written(witness, write):
                await self._discard(where, answered)
                raise ConversationGone from None
        await self._discard(conversation.place or b"")

    async def describe(self, key: StoredKey, metadata: Json) -> Conversation | None:
        told = {"metadata": metadata_text(metadata)}
        try:
            item = await self._told(
                self._table.update(item_key("conversation", key), set=told, condition=self._living())
            )
        except ConditionFailed:
            return None
        return to_conversation(key, item, None)

    async def remove(self, key: StoredKey) -> bool:
        return await self._delete("conversation", key)

    async def _item(self, noun: Noun, key: StoredKey, *, attributes: tuple[str, ...] = ()) -> Item | None:
        item = await self._told(self._table.get(item_key(noun, key), attributes=attributes))
        return None if item is None or expired(item, now=self._clock.time()) else item

    async def _delete(self, noun: Noun, key: StoredKey) -> bool:
        item = await self._told(self._table.delete(item_key(noun, key)))
        if item is None:
            return False
        await self._discard(item.get("at", b""))
        return not expired(item, now=self._clock.time())

    async def _change_own(
        self, key: StoredKey, turn: str, *, changed: Item | None = None, removed: tuple[str, ...] = ()
    ) -> None:
        """Harmless where the conversation is gone, or another turn's."""
        from boto3.dynamodb.conditions import Attr

        work = self._table.update(
            item_key("conversation", key), set=changed, remove=removed, condition=Attr("turn").eq(turn)
        )
        with contextlib.suppress(ConditionFailed):
            await self._told(work)

    async def _is_written(self, key: Key, write: str) -> bool:
        """Whether what is kept is what we have just written: the answer to it was lost, and a second try refused."""
        kept = await self._told(self._table.get(key, attributes=("write",)))
        return kept is not None and kept.get("write") == write

    async def _place(self, noun: Noun, key: StoredKey, body: bytes) -> bytes | str:
        """What stands for a body in its item: itself, or the name of the object that it lies in by then."""
        if len(body) <= INLINE_BYTES:
            return body
        name = object_name(noun, key, secrets.token_hex(8))
        await self._told(self._bucket.put(name, body, of=item_key(noun, key)))
        return name

    async def _read(self, item: Item) -> bytes:
        """Raises ObjectMissing."""
        return await self._told(self._bucket.get(item["at"])) if "at" in item else bytes(item["body"])

    async def _discard(self, *places: bytes | str) -> None:
        """Remove the objects of items that are surely kept no longer."""
        for place in places:
            if isinstance(place, str):
                try:
                    await self._bucket.delete(place)
                except StateUnavailable as error:
                    log.warning("an object of a response or a conversation was left behind: %s", error)

    def _living(self) -> Condition:
        from boto3.dynamodb.conditions import Attr

        now = number(self._clock.time())
        return Attr("pk").exists() & (Attr("expires_at").not_exists() | Attr("expires_at").gt(now))

    def _held_by(self, conversation: Conversation) -> Condition:
        from boto3.dynamodb.conditions import Attr

        return Attr("turn").eq(conversation.turn)

    async def _told(self, work: Awaitable[Answer]) -> Answer:
        """Its answer. The operator is told in the log why the state cannot be reached, the caller that it cannot be."""
        try:
            answer = await work
        except StateUnavailable as error:
            self._answered = None
            log.error("responses cannot be reached: %s", error)
            raise ResponsesUnavailable from error
        self._answered = self._clock.monotonic()
        return answer
