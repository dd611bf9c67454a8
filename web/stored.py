"""The domain of what the Responses API remembers: responses, and conversations that they are parts of. Pure.

And what a store of them must do, whatever it is made of.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

Json = dict[str, Any]
Item = Json
"""An item of the Responses API with its id: a message, a function call, its output, a reasoning."""


@dataclass(frozen=True, order=True)
class StoredKey:
    owner: str
    """As `web.sessions.owner_of` tells."""
    id: str


@dataclass(frozen=True, kw_only=True)
class StoredResponse:
    """A response that has ended, however. It never changes."""

    key: StoredKey
    response: Json
    """As its caller was told it at its end."""
    items: tuple[Item, ...]
    """All that it is an answer to, the oldest first: what it continues, and its own input. Whole, so that any number
    of responses may follow one, and whoever follows a long chain reads one item."""
    affinity: str
    """What the engine's affinity goes by: the same along a chain."""
    expires_at: float
    """Seconds since the epoch."""

    def context(self) -> tuple[Item, ...]:
        """What a response that follows this one continues."""
        return (*self.items, *followable(self.response["output"]))


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """A conversation as it was at one moment. Responses and callers change it in turns, one at a time."""

    key: StoredKey
    created_at: int
    """Seconds since the epoch."""
    metadata: Json
    items: tuple[Item, ...] = ()
    turn: str | None = None
    """The turn that holds it, by its random id."""
    expires_at: float | None = None
    """Seconds since the epoch. None: it is kept until it is deleted."""
    place: str | None = field(default=None, compare=False)
    """Where the store has its items: the store's own."""

    def with_items(self, items: Iterable[Item]) -> Conversation:
        return replace(self, items=tuple(items))


def followable(output: Iterable[Item]) -> tuple[Item, ...]:
    """What of an answer those that follow it may see. Of a call that was broken off there is no telling what it was
    to be: chat templates fail at its arguments."""
    return tuple(item for item in output if item["type"] != "function_call" or item["status"] == "completed")


class ResponseStore(Protocol):
    """Keeps responses and conversations. Each method is one operation on one item, or one transaction on two, so that a
    table in a database can be a store as well as a dictionary. What has expired is gone. Every method may raise
    ResponsesUnavailable."""

    async def check(self) -> None:
        """Return if, as far as can be told, the store can be written: asked before anything is done that costs."""

    async def load(self, key: StoredKey) -> StoredResponse | None: ...

    async def keep(self, response: StoredResponse) -> None: ...

    async def delete(self, key: StoredKey) -> bool:
        """Whether there was one."""

    async def create(self, conversation: Conversation) -> None:
        """Keep a new one, whose id nobody else has."""

    async def conversation(self, key: StoredKey, *, with_items: bool = True) -> Conversation | None: ...

    async def claim(self, key: StoredKey, turn: str) -> Conversation | None:
        """The conversation, which is this turn's from now on until `settle`, `release`, or a while without `renew`.
        None if there is none. Raises ConversationLocked while it is another's."""

    async def renew(self, key: StoredKey, turn: str) -> None:
        """Its turn goes on."""

    async def release(self, key: StoredKey, turn: str) -> None:
        """Its turn ends and has changed nothing. Harmless where it is not this turn's."""

    async def settle(self, conversation: Conversation, *, response: StoredResponse | None = None) -> None:
        """End a claimed conversation's turn with the items that it has now, and keep the response that made them, both
        or neither. Raises ConversationGone when it is not that turn's any more."""

    async def describe(self, key: StoredKey, metadata: Json) -> Conversation | None:
        """Put `metadata` in the place of a conversation's. The conversation, without its items; None if there is
        none."""

    async def remove(self, key: StoredKey) -> bool:
        """Forget a conversation, whatever is under way on it. Whether there was one."""
