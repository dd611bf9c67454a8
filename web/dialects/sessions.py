"""`/v1/sessions`: what callers say of their sessions and are told of them, in the manner of OpenAI's objects. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from web.sessions import Listed, Session

SessionId = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]+$")]
Title = Annotated[str, Field(max_length=200)]
SystemPrompt = Annotated[str, Field(max_length=65536)]


class _Given(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class NewSession(_Given):
    """`id`: made up unless given. `system_prompt`: the configured one unless given."""

    id: SessionId | None = None
    title: Title = ""
    system_prompt: SystemPrompt | None = None


class ChangedSession(_Given):
    """What is not given stays as it is."""

    title: Title | None = None
    system_prompt: SystemPrompt | None = None


class Fork(_Given):
    """`messages`: how many of the first ones the new session begins with, the system prompt not counted. To edit a
    message, fork before it and ask anew. `id`: made up unless given."""

    messages: Annotated[int, Field(ge=0)]
    id: SessionId | None = None


class SessionObject(BaseModel):
    """Times are whole seconds since the epoch. `messages`: how many, the system prompt not counted."""

    id: str
    object: Literal["session"] = "session"
    title: str
    model: str | None
    messages: int
    created_at: int
    last_used_at: int
    expires_at: int


class SessionPage(BaseModel):
    object: Literal["list"] = "list"
    data: list[SessionObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class DeletedSession(BaseModel):
    id: str
    object: Literal["session.deleted"] = "session.deleted"
    deleted: bool = True


def listed_object(listed: Listed) -> SessionObject:
    return SessionObject(
        id=listed.id, title=listed.title, model=listed.model, messages=listed.messages,
        created_at=int(listed.created_at), last_used_at=int(listed.used_at), expires_at=int(listed.expires_at),
    )  # fmt: skip


def page_of(listed: list[Listed], *, after: str | None, limit: int) -> SessionPage:
    """Those behind the one named `after` (all, where that is not there)."""
    ids = [one.id for one in listed]
    rest = listed[ids.index(after) + 1 :] if after in ids else listed
    shown = [listed_object(one) for one in rest[:limit]]
    ends = {"first_id": shown[0].id, "last_id": shown[-1].id} if shown else {"first_id": None, "last_id": None}
    return SessionPage(data=shown, has_more=len(rest) > limit, **ends)


def exported(session: Session) -> dict[str, Any]:
    """All of a session, as JSON."""
    return {
        "id": session.key.id, "object": "session.export", "title": session.title, "model": session.model,
        "created_at": int(session.created_at), "messages": session.history(),
    }  # fmt: skip


def markdown(session: Session) -> str:
    """The same for people: a heading for each message, its text as it was written."""
    parts = [f"# {session.title or session.key.id}"]
    for message in session.history():
        mark = " (interrupted)" if message.get("interrupted") else ""
        parts.append(f"## {str(message['role']).capitalize()}{mark}\n\n{message['content']}")
    return "\n\n".join(parts) + "\n"
