"""The service's own request bodies: their fields, in all spellings, as types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from infra.settings import Device  # noqa: TC001 (pydantic reads it)
from web.dialects.openai_schema import ImageAddress  # noqa: TC001 (likewise)
from web.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

Json = dict[str, Any]

LONGEST_SESSION_ID = 128
SPELLINGS: Mapping[str, tuple[str, ...]] = {
    "model": ("model", "model-name", "model_name"),
    "prompt": ("prompt",),
    "max_tokens": ("max_tokens", "max-tokens", "max_token", "max-token"),
    "temperature": ("temperature",),
    "top_p": ("top_p", "top-p"),
    "top_k": ("top_k", "top-k"),
    "repeat_penalty": ("repeat_penalty", "repeat-penalty"),
    "stop": ("stop",),
    "device": ("device",),
    "stream": ("stream",),
    "events": ("events",),
    "session_id": ("session_id", "session-id"),
    "system_prompt": ("system_prompt", "system-prompt"),
    "images": ("images",),
}
"""What a field is called here -> what callers may call it."""


def session_id_fault(session_id: str) -> str | None:
    """Why this cannot name a session; None if it can. It stands in paths, percent-encoded, where `.` and `..` would
    be taken for steps of the path."""
    if not 1 <= len(session_id) <= LONGEST_SESSION_ID:
        return f"has 1 to {LONGEST_SESSION_ID} characters"
    if not session_id.isprintable():
        return "holds printable characters only"
    return "is not a dot or two" if session_id in (".", "..") else None


def _usable(session_id: str) -> str:
    if fault := session_id_fault(session_id):
        raise ValueError(f"a session's id {fault}")
    return session_id


def _tell_spellings(schema: Json) -> None:
    """Every spelling of every field, in the JSON schema."""
    told = schema["properties"]
    for name, spellings in SPELLINGS.items():
        if name in told:
            for spelling in spellings:
                told.setdefault(spelling, {**told[name], "title": f"Another spelling of {name}"})
    schema["required"] = ["prompt"]
    schema["anyOf"] = [{"required": [spelling]} for spelling in SPELLINGS["model"]]


MOST_IMAGES = 8

StopString = Annotated[str, Field(min_length=1)]
SessionId = Annotated[str, AfterValidator(_usable)]


class ServiceRequest(BaseModel):
    """What both routes share. Null is the default, unknown fields are ignored."""

    model_config = ConfigDict(extra="allow", strict=True, defer_build=True, json_schema_extra=_tell_spellings)

    model: str
    prompt: Annotated[str, Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=1)] | None = 128
    temperature: Annotated[float, Field(ge=0, le=2)] | None = 0.7
    top_p: Annotated[float, Field(gt=0, le=1)] | None = 0.95
    top_k: Annotated[int, Field(ge=-1)] | None = None
    """0 and -1: no limit."""
    repeat_penalty: Annotated[float, Field(gt=0, le=2)] | None = 1.0
    stop: StopString | Annotated[list[StopString], Field(max_length=16)] | None = []
    device: Device | None = None
    """Where the caller would like the model to run."""
    events: bool | None = False
    """Whether the stream's end tells what is known of the answer."""
    stream: bool | None = False


class ServiceText(ServiceRequest):
    """`POST /completions`."""


class ServiceChat(ServiceRequest):
    """`POST /chat/completions`, and a prompt on `/chat/ws`: always streamed."""

    top_k: Annotated[int, Field(ge=-1)] | None = 10
    stream: bool | None = True
    session_id: SessionId | None = None
    system_prompt: str | None = None
    """Of the session, from this turn on; without a session, of this request."""
    images: Annotated[list[ImageAddress], Field(max_length=MOST_IMAGES)] | None = []
    """Shown with the prompt: `data:` or `http(s):` URLs, for a model that sees."""


def one_spelling(body: Json) -> tuple[Json, Json]:
    """The fields of a body under their own names without nulls, and those that are nobody's here. Raises InvalidRequest
    when a field is there in two spellings with two values."""
    known: Json = {}
    for name, spellings in SPELLINGS.items():
        used = [spelling for spelling in spellings if body.get(spelling) is not None]
        if any(not _same(body[spelling], body[used[0]]) for spelling in used):
            both = " and ".join(f"'{spelling}'" for spelling in used)
            raise InvalidRequest(f"{both} are one field, with different values.", param=used[0], code="invalid_value")
        if used:
            known[name] = body[used[0]]
    mine = {spelling for spellings in SPELLINGS.values() for spelling in spellings}
    return known, {name: value for name, value in body.items() if name not in mine}


def spelling_of(name: str, body: Json) -> str:
    """What the caller called a field: errors name it so."""
    return next((spelling for spelling in SPELLINGS.get(name, ()) if body.get(spelling) is not None), name)


def _same(one: object, other: object) -> bool:
    return one == other and isinstance(one, bool) == isinstance(other, bool)
