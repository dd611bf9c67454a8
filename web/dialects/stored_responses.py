"""What is told of stored responses and of conversations: items with their ids, pages of them, objects. Pure."""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, Field

from web.dialects.openai_schema import Open
from web.dialects.responses_schema import Item, Metadata  # noqa: TC001 - pydantic reads annotations
from web.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from web.stored import Conversation

Json = dict[str, Any]

PREFIXES = {"message": "msg", "function_call": "fc", "function_call_output": "fco", "reasoning": "rs"}
SANE_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
MOST_ITEMS = 20
"""That are added to a conversation at a time."""


class NewConversation(Open):
    """`POST /v1/conversations`."""

    items: Annotated[list[Item], Field(max_length=MOST_ITEMS)] | None = None
    metadata: Metadata | None = None


class ChangedConversation(Open):
    """`POST /v1/conversations/{id}`. A null takes away what there is."""

    metadata: Metadata | None


class NewItems(Open):
    """`POST /v1/conversations/{id}/items`."""

    items: Annotated[list[Item], Field(min_length=1, max_length=MOST_ITEMS)]


class ConversationObject(BaseModel):
    id: str
    object: Literal["conversation"] = "conversation"
    created_at: int
    metadata: dict[str, str]


class DeletedConversation(BaseModel):
    id: str
    object: Literal["conversation.deleted"] = "conversation.deleted"
    deleted: bool = True


class DeletedResponse(BaseModel):
    id: str
    object: Literal["response"] = "response"
    deleted: bool = True


class ItemPage(BaseModel):
    object: Literal["list"] = "list"
    data: list[dict[str, Any]]
    first_id: str | None
    last_id: str | None
    has_more: bool


def identified(
    items: Iterable[Json], *, known: Collection[str] = (), field: str = "input"
) -> tuple[Json, ...]:  # fmt: skip
    """Items as they are kept and told: each with an id of its own, a status, and its content in parts. An id that came
    with an item stays. `known`: those of what is there already: an item that comes again is not meant to be there
    twice. `field`: what callers call the list. Raises InvalidRequest."""
    taken = set(known)
    told = []
    for index, item in enumerate(items):
        name = given if isinstance(given := item.get("id"), str) and SANE_ID.fullmatch(given) else None
        if name in known:
            raise InvalidRequest(
                f"Duplicate item found with id {name}. Remove duplicate items from your input and try again.",
                param=f"{field}[{index}].id", code="duplicate_item",
            )  # fmt: skip
        kind = item.get("type") or "message"
        if name is None or name in taken:
            name = f"{PREFIXES[kind]}_{secrets.token_hex(16)}"
        taken.add(name)
        told.append(_told(item, kind) | {"id": name, "type": kind})
    return tuple(told)


def item_page(items: Sequence[Json], *, after: str | None, limit: int, order: Literal["asc", "desc"]) -> ItemPage:
    """Those that come behind the one named `after` (from the beginning, where that is not there)."""
    ordered = items if order == "asc" else items[::-1]
    ids = [item["id"] for item in ordered]
    begin = ids.index(after) + 1 if after in ids else 0
    shown = list(ordered[begin : begin + limit])
    return page_of(shown, has_more=len(ordered) > begin + limit)


def page_of(shown: list[Json], *, has_more: bool = False) -> ItemPage:
    ends = (shown[0]["id"], shown[-1]["id"]) if shown else (None, None)
    return ItemPage(data=shown, first_id=ends[0], last_id=ends[1], has_more=has_more)


def conversation_object(conversation: Conversation) -> ConversationObject:
    return ConversationObject(
        id=conversation.key.id, created_at=conversation.created_at, metadata=conversation.metadata
    )  # fmt: skip


def _told(item: Json, kind: str) -> Json:
    said = item.get("status")
    status = {"status": said if said in ("in_progress", "completed", "incomplete") else "completed"}
    if kind == "message":
        return item | status | {"content": _parts(item["content"], item["role"])}
    if kind == "reasoning":
        return item | {"summary": item.get("summary") or []}
    return item | status


def _parts(content: str | list[Json], role: str) -> list[Json]:
    if isinstance(content, str):
        content = [{"type": "output_text" if role == "assistant" else "input_text", "text": content}]
    return [_part(part) for part in content]


def _part(part: Json) -> Json:
    match part["type"]:
        case "output_text":
            return {"annotations": [], "logprobs": []} | part
        case "input_image":
            return {"detail": "auto"} | part
    return part
