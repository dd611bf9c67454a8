"""Stored responses and conversations as items of a table and back. Pure.

What conditions need are attributes; the rest is one JSON object, in the item (`body`) or, where it is large, in an
object of the bucket (`at`). Each has a `pk` of its own: however many an owner has, no partition grows hot or full.
"""

from __future__ import annotations

import hashlib
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

import orjson

from infra.table import Item, Key
from web.stored import Conversation, StoredKey, StoredResponse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from web.stored import Json

Noun = Literal["response", "conversation"]

OBJECTS = ("responses/", "conversations/")
"""How the names of their objects begin."""
INLINE_BYTES = 64 * 1024
"""A larger body goes into the bucket."""
DESCRIBED = ("created_at", "metadata", "turn", "expires_at")
"""The attributes of a conversation that tell all but its items."""


def item_key(noun: Noun, key: StoredKey) -> Key:
    return Key(f"{noun}#{key.owner}#{key.id}", noun)


def object_name(noun: Noun, key: StoredKey, write: str) -> str:
    """Of the object in which a large body lies: new for each write, so that no reader finds another's."""
    owner = hashlib.sha256(key.owner.encode()).hexdigest()[:32]
    name = hashlib.sha256(key.id.encode()).hexdigest()[:32]
    return f"{noun}s/{owner}/{name}/{write}.json"


def response_body(response: StoredResponse) -> bytes:
    return orjson.dumps({"response": response.response, "items": response.items, "affinity": response.affinity})


def response_in(key: StoredKey, body: bytes, *, expires_at: float) -> StoredResponse:
    held = orjson.loads(body)
    return StoredResponse(
        key=key, response=held["response"], items=tuple(held["items"]), affinity=held["affinity"],
        expires_at=expires_at,
    )  # fmt: skip


def response_item(response: StoredResponse, where: bytes | str) -> Item:
    """`where`: the body, or the name of the object that holds it."""
    return {
        **item_key("response", response.key).item(), **body_attribute(where),
        **life(response.expires_at),
    }  # fmt: skip


def conversation_body(conversation: Conversation) -> bytes:
    return orjson.dumps(conversation.items)


def items_in(body: bytes) -> tuple[Json, ...]:
    return tuple(orjson.loads(body))


def conversation_item(conversation: Conversation, where: bytes | str) -> Item:
    """Of a new one."""
    return {
        **item_key("conversation", conversation.key).item(), "created_at": conversation.created_at,
        "metadata": metadata_text(conversation.metadata), **body_attribute(where),
        **life(conversation.expires_at),
    }  # fmt: skip


def settled(conversation: Conversation, where: bytes | str) -> tuple[Item, tuple[str, ...]]:
    """What of a conversation's item a turn sets at its end, and what it removes."""
    changed = {**body_attribute(where), **life(conversation.expires_at)}
    stale = {"turn", "leased_until", "body", "at", "expires_at", "ttl"} - changed.keys()
    return changed, tuple(sorted(stale))


def metadata_text(metadata: Json) -> str:
    """As JSON: its keys may be what no attribute's name may be."""
    return orjson.dumps(metadata).decode()


def to_conversation(key: StoredKey, item: Mapping[str, Any], body: bytes | None) -> Conversation:
    """`body`: None where nobody wants the items."""
    expires = item.get("expires_at")
    return Conversation(
        key=key, created_at=int(item["created_at"]), metadata=orjson.loads(item["metadata"]),
        items=() if body is None else items_in(body), turn=item.get("turn"),
        expires_at=None if expires is None else float(expires), place=item.get("at"),
    )  # fmt: skip


def body_attribute(where: bytes | str) -> Item:
    return {"at": where} if isinstance(where, str) else {"body": where}


def life(expires_at: float | None) -> Item:
    """The attributes by which an item ends. Its object, if it has one, is then one that no item names: there is a job
    that removes those."""
    return {} if expires_at is None else {"expires_at": number(expires_at), "ttl": int(expires_at)}


def expired(item: Mapping[str, Any], *, now: float) -> bool:
    return "expires_at" in item and float(item["expires_at"]) <= now


def number(seconds: float) -> Decimal:
    """As DynamoDB takes it, digit for digit."""
    return Decimal(repr(float(seconds)))
