"""One response that goes on from what was stored, and is stored: kept before it is told as complete.

A turn of a conversation is its own from when it is read until its items are added, whatever becomes of who asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

from web.stored import StoredKey, followable
from web.stored_errors import ResponsesUnavailable

if TYPE_CHECKING:
    from web.clock import Clock
    from web.dialects.responses import ResponsesCall
    from web.response_turns import ResponseTurns
    from web.stored import Conversation, Item, Json, ResponseStore, StoredResponse

RENEW_SECONDS = 20.0
"""How often a turn tells that it lives: well within a store's lease."""
ADDED = frozenset({"completed", "incomplete"})
"""The ends of a response by which its items become its conversation's."""


class ResponseTurn:
    """One response, what it goes on from, and what becomes of it."""

    def __init__(
        self, turns: ResponseTurns, store: ResponseStore, call: ResponsesCall, owner: str, *, clock: Clock
    ) -> None:  # fmt: skip
        self.id = secrets.token_hex(16)
        self.history: tuple[Item, ...] = ()
        self.input: tuple[Item, ...] = ()
        self.affinity: str | None = None
        self._turns = turns
        self._store = store
        self._call = call
        self._owner = owner
        self._clock = clock
        self._conversation: Conversation | None = None
        self._renewing: asyncio.Task[None] | None = None
        self._write: asyncio.Task[None] | None = None

    def claimed(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self.history, self.affinity = conversation.items, conversation.key.id
        self._renewing = asyncio.create_task(self._renew(conversation), name="lease")

    def follow(self, previous: StoredResponse) -> None:
        self.history, self.affinity = previous.context(), previous.affinity

    def take_input(self) -> None:
        """Raises InvalidRequest for what is there already."""
        from web.dialects.stored_responses import identified  # not for every container's first request

        self.input = identified(self._call.input, known=frozenset(item["id"] for item in self.history))

    async def keep(self, response: Json) -> None:
        """Keep a response that has ended, which happens once, and whatever becomes of who awaits it. Raises
        ConversationGone, ResponsesUnavailable; not again to who asks when it is over."""
        if self._write is None:
            self._write = self._turns.write(self._keep(response))
        if not self._write.done():
            await asyncio.shield(self._write)

    async def end(self, left: Json | None) -> None:
        """Nothing more comes. `left`: the response as far as it came, if that is to be kept and was not yet."""
        if self._write is None:
            self._write = self._turns.write(self._release() if left is None else self._keep(left))
        with contextlib.suppress(Exception):  # its caller knows already, or has left
            await asyncio.shield(self._write)

    async def _keep(self, response: Json) -> None:
        conversation = self._conversation
        kept = None
        if self._call.store:
            affinity = self._call.blank.affinity or self.affinity or response["id"].removeprefix("resp_")
            key = StoredKey(self._owner, response["id"])
            kept = self._turns.stored(key, response, items=(*self.history, *self.input), affinity=affinity)
        try:
            if conversation is not None and response["status"] in ADDED:
                items = (*self.history, *self.input, *followable(response["output"]))
                await self._store.settle(
                    replace(conversation, items=items, expires_at=self._turns.conversation_end()), response=kept
                )
                self._stop_renewing()
                return
            if kept is not None:
                await self._store.keep(kept)
        except Exception:
            await self._release()
            raise
        await self._release()

    async def _release(self) -> None:
        self._stop_renewing()
        if self._conversation is not None:
            with contextlib.suppress(ResponsesUnavailable):  # its lease will end
                await self._store.release(self._conversation.key, self.id)

    def _stop_renewing(self) -> None:
        if self._renewing is not None:
            self._renewing.cancel()

    async def _renew(self, conversation: Conversation) -> None:
        while True:
            await self._clock.sleep(RENEW_SECONDS)
            with contextlib.suppress(ResponsesUnavailable):
                await self._store.renew(conversation.key, self.id)
