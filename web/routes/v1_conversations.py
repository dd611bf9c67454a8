"""`/v1/conversations`: what responses are parts of, as OpenAI's API has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Query, Request

from web.asgi import read_body
from web.caller import caller_of
from web.dialects.stored_responses import (
    ChangedConversation,
    ConversationObject,
    DeletedConversation,
    ItemPage,
    NewConversation,
    NewItems,
    conversation_object,
    identified,
    item_page,
    page_of,
)
from web.dialects.validation import validated
from web.sessions import owner_of
from web.stored_errors import ItemNotFound

if TYPE_CHECKING:
    from pydantic import BaseModel

    from web.response_turns import ResponseTurns
    from web.stored import Item

ROOT = "/v1/conversations"
ONE = f"{ROOT}/{{conversation_id}}"
ITEMS = f"{ONE}/items"
ITEM = f"{ITEMS}/{{item_id}}"


def router(turns: ResponseTurns, *, max_body_bytes: int) -> APIRouter:
    api = APIRouter(tags=["conversations"], responses={404: {"description": "There is no such conversation or item"}})

    def owner(request: Request) -> str:
        return owner_of(caller_of(request.scope))

    async def read(request: Request, schema: type[BaseModel]) -> dict[str, Any]:
        body = await read_body(request.scope, request.receive, limit=max_body_bytes)
        return validated(body or b"{}", schema, refused={})

    @api.post(ROOT, summary="Make a conversation", **_body(NewConversation))
    async def create(request: Request) -> ConversationObject:
        given = await read(request, NewConversation)
        made = await turns.create(
            owner(request), items=given.get("items") or (), metadata=given.get("metadata") or {}
        )  # fmt: skip
        return conversation_object(made)

    @api.get(ONE, summary="A conversation, without its items")
    async def get(request: Request, conversation_id: str) -> ConversationObject:
        return conversation_object(await turns.conversation(owner(request), conversation_id, with_items=False))

    @api.post(ONE, summary="Change a conversation's metadata", **_body(ChangedConversation))
    async def describe(request: Request, conversation_id: str) -> ConversationObject:
        given = await read(request, ChangedConversation)
        return conversation_object(
            await turns.describe(owner(request), conversation_id, given.get("metadata") or {})
        )  # fmt: skip

    @api.delete(ONE, summary="Forget a conversation and its items; a response that is made for it fails")
    async def delete(request: Request, conversation_id: str) -> DeletedConversation:
        await turns.remove(owner(request), conversation_id)
        return DeletedConversation(id=conversation_id)

    @api.get(ITEMS, summary="The items of a conversation")
    async def items(
        request: Request,
        conversation_id: str,
        after: str | None = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        order: Literal["asc", "desc"] = "desc",
    ) -> ItemPage:
        found = await turns.conversation(owner(request), conversation_id)
        return item_page(found.items, after=after, limit=limit, order=order)

    @api.post(ITEMS, summary="Add items to a conversation", **_body(NewItems))
    async def add(request: Request, conversation_id: str) -> ItemPage:
        given = await read(request, NewItems)
        added: list[Item] = []

        def with_more(before: tuple[Item, ...]) -> tuple[Item, ...]:
            added[:] = identified(given["items"], known=frozenset(item["id"] for item in before), field="items")
            return (*before, *added)

        await turns.change(owner(request), conversation_id, with_more)
        return page_of(added)

    @api.get(ITEM, summary="An item of a conversation", response_model=dict[str, Any])
    async def item(request: Request, conversation_id: str, item_id: str) -> Item:
        found = await turns.conversation(owner(request), conversation_id)
        return _the(item_id, found.items)

    @api.delete(ITEM, summary="Take an item out of a conversation")
    async def take_out(request: Request, conversation_id: str, item_id: str) -> ConversationObject:
        def without(before: tuple[Item, ...]) -> tuple[Item, ...]:
            gone = _the(item_id, before)
            return tuple(one for one in before if one is not gone)

        return conversation_object(await turns.change(owner(request), conversation_id, without))

    return api


def _the(item_id: str, items: tuple[Item, ...]) -> Item:
    """Raises ItemNotFound."""
    for item in items:
        if item["id"] == item_id:
            return item
    raise ItemNotFound(item_id)


def _body(schema: type[BaseModel]) -> dict[str, Any]:
    """What the OpenAPI document says of a body that is read here."""
    content = {"application/json": {"schema": schema.model_json_schema()}}
    return {
        "openapi_extra": {"requestBody": {"content": content}},
        "responses": {
            400: {"description": "The request is not valid"}, 404: {"description": "There is no such conversation"},
            409: {"description": "A response is under way on it"}, 413: {"description": "The body is too large"},
            415: {"description": "The body is not JSON by its media type"},
        },
    }  # fmt: skip
