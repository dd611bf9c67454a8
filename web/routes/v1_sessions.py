"""`/v1/sessions`: sessions as objects, which are made, listed, named, forked, exported and deleted."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, ValidationError

from web.asgi import read_body
from web.caller import caller_of
from web.dialects.sessions import (
    ChangedSession,
    DeletedSession,
    Fork,
    NewSession,
    SessionObject,
    SessionPage,
    exported,
    listed_object,
    markdown,
    page_of,
)
from web.dialects.validation import explained, json_object
from web.routes.sessions import HistoryMessage
from web.sessions import Listed, SessionKey, owner_of

if TYPE_CHECKING:
    from web.conversations import Conversations
    from web.sessions import Session

ROOT = "/v1/sessions"
ONE = f"{ROOT}/{{session_id:path}}"
LONGEST_BODY = 512 * 1024

Given = TypeVar("Given", bound=BaseModel)


def router(conversations: Conversations) -> APIRouter:
    """The routes. Ids stand in paths percent-encoded; what follows one is matched before it."""
    api = APIRouter(tags=["sessions"])

    def key_of(request: Request, session_id: str) -> SessionKey:
        return SessionKey(owner_of(caller_of(request.scope)), session_id)

    def told(session: Session) -> SessionObject:
        return listed_object(Listed.of(session))

    @api.get(ROOT, summary="The caller's sessions, the one used last first")
    async def listed(
        request: Request, after: str | None = None, limit: Annotated[int, Query(ge=1, le=1000)] = 100
    ) -> SessionPage:
        owner = owner_of(caller_of(request.scope))
        return page_of(list(await conversations.listed(owner)), after=after, limit=limit)

    @api.post(ROOT, summary="Make a session in which nothing was said yet", status_code=201, **_body(NewSession))
    async def create(request: Request) -> SessionObject:
        given = await _read(request, NewSession)
        key = key_of(request, given.id or _made_up())
        return told(await conversations.create(key, title=given.title, system=given.system_prompt))

    @api.get(
        f"{ONE}/messages", summary="The messages of a session, the system prompt first",
        response_model=list[HistoryMessage], response_model_exclude_defaults=True,
    )  # fmt: skip
    async def messages(request: Request, session_id: str) -> list[dict[str, Any]]:
        return (await conversations.load(key_of(request, session_id))).history()

    @api.get(
        f"{ONE}/export", summary="All of a session, to keep elsewhere", response_model=None,
        responses={200: {"content": {"application/json": {}, "text/markdown": {}}}},
    )  # fmt: skip
    async def export(
        request: Request,
        session_id: str,
        format: Literal["json", "markdown"] = "json",  # noqa: A002
    ) -> dict[str, Any] | Response:
        session = await conversations.load(key_of(request, session_id))
        if format == "markdown":
            return PlainTextResponse(markdown(session), media_type="text/markdown; charset=utf-8")
        return exported(session)

    @api.post(f"{ONE}/fork", summary="Begin a new session as this one began", status_code=201, **_body(Fork))
    async def fork(request: Request, session_id: str) -> SessionObject:
        given = await _read(request, Fork)
        key = key_of(request, session_id)
        return told(await conversations.fork(key, given.id or _made_up(), messages=given.messages))

    @api.get(ONE, summary="A session")
    async def get(request: Request, session_id: str) -> SessionObject:
        return told(await conversations.load(key_of(request, session_id)))

    @api.patch(ONE, summary="Change a session's title or system prompt", **_body(ChangedSession))
    async def change(request: Request, session_id: str) -> SessionObject:
        given = await _read(request, ChangedSession)
        key = key_of(request, session_id)
        return told(
            await conversations.change(key, lambda one: one.changed(title=given.title, system=given.system_prompt))
        )

    @api.delete(ONE, summary="Forget a session; an answer that is on its way stops")
    async def delete(request: Request, session_id: str) -> DeletedSession:
        key = key_of(request, session_id)
        await conversations.load(key)
        await conversations.delete(key)
        return DeletedSession(id=session_id)

    return api


def _made_up() -> str:
    return f"sess_{secrets.token_hex(16)}"


async def _read(request: Request, schema: type[Given]) -> Given:
    body = await read_body(request.scope, request.receive, limit=LONGEST_BODY)
    given = json_object(body) if body else {}
    try:
        return schema.model_validate(given)
    except ValidationError as error:
        raise explained(error.errors(include_url=False), given) from None


def _body(schema: type[BaseModel]) -> dict[str, Any]:
    """What the OpenAPI document says of a body that is read here."""
    content = {"application/json": {"schema": schema.model_json_schema()}}
    return {
        "openapi_extra": {"requestBody": {"content": content}},
        "responses": {
            400: {"description": "The request is not valid"}, 404: {"description": "There is no such session"},
            409: {"description": "A turn is under way, or the id is taken"},
        },
    }  # fmt: skip
