"""`/sessions` and `/chat/history/…`: what callers may see of their sessions, and take back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Body, Request, Response
from pydantic import BaseModel, Field

from web.caller import caller_of
from web.sessions import SessionKey, owner_of

if TYPE_CHECKING:
    from web.conversations import Conversations

HISTORY = "/chat/history/{session_id:path}"


class HistoryMessage(BaseModel):
    """One message of a session. `interrupted`: an answer that did not come to its end."""

    role: Literal["system", "user", "assistant"]
    content: str
    interrupted: bool = False


class Rollback(BaseModel):
    """`amount`: how many of the last messages to remove."""

    amount: Annotated[int, Field(ge=1, strict=True)] | None = 1


class Done(BaseModel):
    status: Literal["ok"] = "ok"


def router(conversations: Conversations) -> APIRouter:
    """The routes. Ids stand in paths percent-encoded, slashes or not; a session that is not there is an empty one."""
    api = APIRouter(tags=["sessions"])

    def key_of(request: Request, session_id: str) -> SessionKey:
        return SessionKey(owner_of(caller_of(request.scope)), session_id)

    @api.get("/sessions", summary="The ids of the caller's sessions, the one used last first")
    async def list_sessions(request: Request) -> list[str]:
        return list(await conversations.ids(owner_of(caller_of(request.scope))))

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

    @api.post(f"{HISTORY}/rollback", summary="Remove the last messages of a session, never its system prompt")
    async def rollback(request: Request, session_id: str, body: Annotated[Rollback | None, Body()] = None) -> Done:
        amount = (body.amount if body else None) or 1
        await conversations.roll_back(key_of(request, session_id), amount)
        return Done()

    return api
