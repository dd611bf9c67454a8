"""What callers do with stored responses and with conversations, on whatever keeps them."""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
from typing import TYPE_CHECKING, Any

import orjson

from web.conversations import Patience
from web.errors import InvalidRequest
from web.response_turn import ResponseTurn
from web.stored import Conversation, StoredKey, StoredResponse
from web.stored_errors import (
    ConversationLocked,
    ConversationNotFound,
    PreviousResponseNotFound,
    ResponseNotFound,
    ResponsesUnavailable,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable
    from typing import TypeVar

    from infra.settings import Settings
    from web.clock import Clock
    from web.dialects.responses import ResponsesCall
    from web.stored import Item, Json, ResponseStore

    Answer = TypeVar("Answer")

LOOK_SECONDS = 0.5
"""How often who waits for a conversation looks whether it is free."""
RESPONSE_ID = re.compile(r"resp_[0-9a-f]{32}")
CONVERSATION_ID = re.compile(r"conv_[0-9a-f]{32}")


class ResponseTurns:
    """What callers do with stored responses and with conversations, on whatever keeps them."""

    def __init__(self, store: ResponseStore, *, settings: Settings, clock: Clock) -> None:
        self._store = store
        self._settings = settings
        self._clock = clock
        self._writes: set[asyncio.Task[Any]] = set()

    async def begin(self, call: ResponsesCall, owner: str) -> ResponseTurn:
        """What comes before a response, read and, where it is a conversation, claimed. To be ended by `turn.end`.
        Raises PreviousResponseNotFound, ConversationNotFound, ConversationLocked, InvalidRequest, and
        ResponsesUnavailable where what is to be kept surely cannot be."""
        turn = ResponseTurn(self, self._store, call, owner, clock=self._clock)
        if call.conversation is not None:
            turn.claimed(await self._claim(self._conversation_key(owner, call.conversation), turn.id))
        elif call.previous is not None:
            turn.follow(await self._previous(owner, call.previous))
        elif call.store:
            await self._store.check()
        try:
            turn.take_input()
            self._check_size(call, (*turn.history, *turn.input))
        except InvalidRequest:
            await turn.end(None)
            raise
        return turn

    async def history(self, call: ResponsesCall, owner: str) -> tuple[Item, ...]:
        """What comes before a response that is not made. Raises as `begin`."""
        if call.conversation is not None:
            return (await self.conversation(owner, call.conversation)).items
        if call.previous is not None:
            return (await self._previous(owner, call.previous)).context()
        return ()

    async def load(self, owner: str, id: str) -> StoredResponse:  # noqa: A002
        """Raises ResponseNotFound."""
        stored = await self._store.load(StoredKey(owner, id)) if RESPONSE_ID.fullmatch(id) else None
        if stored is None:
            raise ResponseNotFound(id)
        return stored

    async def delete(self, owner: str, id: str) -> None:  # noqa: A002
        """Raises ResponseNotFound."""
        if not RESPONSE_ID.fullmatch(id) or not await self._store.delete(StoredKey(owner, id)):
            raise ResponseNotFound(id)

    async def create(self, owner: str, *, items: Iterable[Item], metadata: Json) -> Conversation:
        from web.dialects.stored_responses import identified  # not for every container's first request

        key = StoredKey(owner, f"conv_{secrets.token_hex(16)}")
        made = Conversation(
            key=key, created_at=int(self._clock.time()), metadata=metadata, items=identified(items, field="items"),
            expires_at=self.conversation_end(),
        )  # fmt: skip
        await self._store.create(made)
        return made

    async def conversation(self, owner: str, id: str, *, with_items: bool = True) -> Conversation:  # noqa: A002
        """Raises ConversationNotFound."""
        found = await self._store.conversation(self._conversation_key(owner, id), with_items=with_items)
        if found is None:
            raise ConversationNotFound(id)
        return found

    async def describe(self, owner: str, id: str, metadata: Json) -> Conversation:  # noqa: A002
        """Raises ConversationNotFound."""
        described = await self._store.describe(self._conversation_key(owner, id), metadata)
        if described is None:
            raise ConversationNotFound(id)
        return described

    async def remove(self, owner: str, id: str) -> None:  # noqa: A002
        """Forget a conversation; a response that is made for it fails. Raises ConversationNotFound."""
        if not await self._store.remove(self._conversation_key(owner, id)):
            raise ConversationNotFound(id)

    async def change(
        self, owner: str, id: str, how: Callable[[tuple[Item, ...]], tuple[Item, ...]]  # noqa: A002
    ) -> Conversation:  # fmt: skip
        """Put `how(items)` in the place of a conversation's items, between responses. Raises ConversationNotFound,
        ConversationLocked, and what `how` raises."""
        key, turn = self._conversation_key(owner, id), secrets.token_hex(16)
        claimed = await self._claim(key, turn)
        changing = self.write(self._change(claimed, turn, how))
        return await asyncio.shield(changing)

    async def close(self) -> None:
        """Wait for what is still to be written."""
        while self._writes:
            await asyncio.wait(self._writes)

    def write(self, work: Coroutine[Any, Any, Answer]) -> asyncio.Task[Answer]:
        """Do it, whatever becomes of who asked for it."""
        task = asyncio.create_task(work, name="response write")
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)
        return task

    def stored(self, key: StoredKey, response: Json, *, items: tuple[Item, ...], affinity: str) -> StoredResponse:
        expires_at = self._clock.time() + self._settings.responses.ttl_seconds
        return StoredResponse(key=key, response=response, items=items, affinity=affinity, expires_at=expires_at)

    def conversation_end(self) -> float | None:
        seconds = self._settings.responses.conversation_ttl_seconds
        return None if seconds is None else self._clock.time() + seconds

    def check_length(self, items: tuple[Item, ...], *, param: str) -> None:
        """Raises InvalidRequest for what is more than a request could say by itself."""
        most = self._settings.web.max_body_bytes
        if len(orjson.dumps(items)) > most:
            raise InvalidRequest(
                f"What came before and what is said now are together more than {most} bytes. Begin anew.",
                param=param, code="context_length_exceeded",
            )  # fmt: skip

    def _check_size(self, call: ResponsesCall, items: tuple[Item, ...]) -> None:
        if call.previous or call.conversation:
            self.check_length(items, param="previous_response_id" if call.previous else "conversation")

    async def _previous(self, owner: str, id: str) -> StoredResponse:  # noqa: A002
        try:
            return await self.load(owner, id)
        except ResponseNotFound:
            raise PreviousResponseNotFound(id) from None

    async def _claim(self, key: StoredKey, turn: str) -> Conversation:
        """The conversation, once it is nobody else's."""
        patience = Patience(self._clock, self._settings.sessions.turn_wait_seconds)
        while True:
            claiming = self.write(self._store.claim(key, turn))
            try:
                conversation = await asyncio.shield(claiming)
            except ConversationLocked:
                if not (left := patience.left()):
                    raise
                await self._clock.sleep(min(left, LOOK_SECONDS))
                continue
            except asyncio.CancelledError:  # who has left may have claimed it
                self.write(self._let_go(claiming, key, turn))
                raise
            if conversation is None:
                raise ConversationNotFound(key.id)
            return conversation

    async def _change(
        self, claimed: Conversation, turn: str, how: Callable[[tuple[Item, ...]], tuple[Item, ...]]
    ) -> Conversation:
        try:
            changed = claimed.with_items(how(claimed.items))
            self.check_length(changed.items, param="items")
            await self._store.settle(changed)
        except Exception:
            with contextlib.suppress(ResponsesUnavailable):  # its lease will end
                await self._store.release(claimed.key, turn)
            raise
        return changed

    async def _let_go(self, claiming: asyncio.Task[Conversation | None], key: StoredKey, turn: str) -> None:
        await asyncio.wait([claiming])
        with contextlib.suppress(ResponsesUnavailable):  # its lease will end
            if not claiming.cancelled() and claiming.exception() is None:
                await self._store.release(key, turn)

    def _conversation_key(self, owner: str, id: str) -> StoredKey:  # noqa: A002
        if not CONVERSATION_ID.fullmatch(id):
            raise ConversationNotFound(id)
        return StoredKey(owner, id)
