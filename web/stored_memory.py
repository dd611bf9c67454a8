"""Responses and conversations in this process's memory: they end with it, and no other process sees them."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from web.stored_errors import ConversationGone, ConversationLocked
from web.stored_items import conversation_body, items_in, response_body, response_in

if TYPE_CHECKING:
    from web.clock import Clock
    from web.stored import Conversation, Json, StoredKey, StoredResponse

MOST_BYTES = 64 * 1024 * 1024
"""Of all that is kept. Above it what was kept first goes first: nobody asked for memory without end."""


@dataclass(frozen=True, kw_only=True)
class _Kept:
    """`conversation`: without its items. None: it is a response."""

    body: bytes
    expires_at: float | None
    conversation: Conversation | None = None


class ResponsesInMemory:
    """For one event loop; made without one. What is kept is kept as bytes, so that nobody changes it from outside, and
    a turn has no lease: who holds it ends with the process."""

    def __init__(self, *, clock: Clock, most_bytes: int = MOST_BYTES) -> None:
        self._clock = clock
        self._most = most_bytes
        self._size = 0
        self._kept: OrderedDict[StoredKey, _Kept] = OrderedDict()
        """The one that was written last is last."""

    async def check(self) -> None:
        """It can."""

    async def load(self, key: StoredKey) -> StoredResponse | None:
        kept = self._find(key)
        return None if kept is None else response_in(key, kept.body, expires_at=kept.expires_at or 0.0)

    async def keep(self, response: StoredResponse) -> None:
        self._put(response.key, _Kept(body=response_body(response), expires_at=response.expires_at))

    async def delete(self, key: StoredKey) -> bool:
        there = self._find(key) is not None
        self._drop(key)
        return there

    async def create(self, conversation: Conversation) -> None:
        self._put_conversation(conversation)

    async def conversation(self, key: StoredKey, *, with_items: bool = True) -> Conversation | None:
        kept = self._find(key)
        if kept is None or kept.conversation is None:
            return None
        return kept.conversation.with_items(items_in(kept.body) if with_items else ())

    async def claim(self, key: StoredKey, turn: str) -> Conversation | None:
        conversation = await self.conversation(key)
        if conversation is None:
            return None
        if conversation.turn not in (None, turn):
            raise ConversationLocked
        claimed = replace(conversation, turn=turn)
        self._put_conversation(claimed)
        return claimed

    async def renew(self, key: StoredKey, turn: str) -> None:
        """It is nobody else's before it ends."""

    async def release(self, key: StoredKey, turn: str) -> None:
        conversation = await self.conversation(key)
        if conversation is not None and conversation.turn == turn:
            self._put_conversation(replace(conversation, turn=None))

    async def settle(self, conversation: Conversation, *, response: StoredResponse | None = None) -> None:
        there = await self.conversation(conversation.key, with_items=False)
        if there is None or there.turn != conversation.turn:
            raise ConversationGone
        if response is not None:
            await self.keep(response)
        self._put_conversation(replace(conversation, turn=None, metadata=there.metadata))

    async def describe(self, key: StoredKey, metadata: Json) -> Conversation | None:
        conversation = await self.conversation(key)
        if conversation is None:
            return None
        self._put_conversation(replace(conversation, metadata=metadata))
        return replace(conversation, metadata=metadata, items=())

    async def remove(self, key: StoredKey) -> bool:
        return await self.delete(key)

    def _find(self, key: StoredKey) -> _Kept | None:
        kept = self._kept.get(key)
        if kept is not None and kept.expires_at is not None and kept.expires_at <= self._clock.time():
            self._drop(key)
            return None
        return kept

    def _put_conversation(self, conversation: Conversation) -> None:
        body = conversation_body(conversation)
        told = replace(conversation, items=())
        self._put(conversation.key, _Kept(body=body, expires_at=conversation.expires_at, conversation=told))

    def _put(self, key: StoredKey, kept: _Kept) -> None:
        self._drop(key)
        self._kept[key] = kept
        self._size += len(kept.body)
        while self._size > self._most and len(self._kept) > 1:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: StoredKey) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._size -= len(kept.body)
