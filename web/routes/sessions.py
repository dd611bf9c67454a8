"""`/sessions` and `/chat/history/…`: what callers may see of their sessions, and take back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from web.asgi import read_body
from web.caller import caller_of
from web.dialects.validation import explained, json_object
from web.sessions import SessionKey, owner_of

if TYPE_CHECKING:
    from web.conversations import Conversations

HISTORY = "/chat/history/{session_id:path}"
LONGEST_BODY = 64 * 1024


class HistoryMessage(BaseModel):
    """One message of a session. `images`: the URLs of those that were shown with it. `interrupted`: an answer that did
    not come to its end."""

    role: Literal["system", "user", "assistant"]
    content: str
    images: list[str] = []
    interrupted: bool = False


class Rollback(BaseModel):
    """`amount`: how many of the last messages to remove."""

    model_config = ConfigDict(strict=True)

    amount: Annotated[int, Field(ge=1)] | None = 1


class Done(BaseModel):
    status: Literal["ok"] = "ok"


def router(conversations: Conversations) -> APIRouter:
    """The routes. Ids stand in paths percent-encoded, slashes or not; a session that is not there is an empty one."""
    api = APIRouter(tags=["sessions"])

    def key_of(request: Request, session_id: str) -> SessionKey:
        return SessionKey(owner_of(caller_of(request.scope)), session_id)

    @api.get("/sessions", summary="The ids of the caller's sessions, the one used last first")
    async def list_sessions(request: Request) -> list[str]:
        return [one.id for one in await conversations.listed(owner_of(caller_of(request.scope)))]

    @api.get(
        HISTORY, summary="The messages of a session, the system prompt first",
        response_model=list[HistoryMessage], response_model_exclude_defaults=True,
    )  # fmt: skip
    async def history(request: Request, session_id: str) -> list[dict[str, Any]]:
        return await conversations.history(key_of(request, session_id))

    @api.delete(HISTORY, summary="Forget a session; an answer that is on its way stops", status_code=204)
    async def delete(request: Request, session_id: str) -> Response:
        await conversations.delete(key_of(request, session_id))
        return Response(status_code=204)

    @api.post(
        f"{HISTORY}/rollback", summary="Remove the last messages of a session, never its system prompt",
        openapi_extra={"requestBody": {"content": {"application/json": {"schema": Rollback.model_json_schema()}}}},
        responses={400: {"description": "The request is not valid"}, 409: {"description": "A turn is under way"}},
    )  # fmt: skip
    async def rollback(request: Request, session_id: str) -> Done:
        body = await read_body(request.scope, request.receive, limit=LONGEST_BODY)
        await conversations.roll_back(key_of(request, session_id), _amount(body))
        return Done()

    return api


def _amount(body: bytes) -> int:
    """How many messages; 1 unless it is said. Raises InvalidRequest."""
    given = json_object(body) if body else {}
    try:
        return Rollback.model_validate(given).amount or 1
    except ValidationError as error:
        raise explained(error.errors(include_url=False), given) from None
