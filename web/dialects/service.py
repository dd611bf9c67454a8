"""The service's own requests: bytes to the internal request, and the one rule for the paths that two dialects share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from web.dialects.fields import FIELDS
from web.dialects.request import GenerationRequest
from web.dialects.service_schema import SPELLINGS, ServiceChat, ServiceRequest, ServiceText, one_spelling, spelling_of
from web.dialects.validation import explained
from web.errors import InvalidRequest
from web.sessions import content_of

if TYPE_CHECKING:
    from infra.settings import Device

Json = dict[str, Any]
Spoken = Literal["service", "openai"]

OPENAIS_OWN = frozenset(field.name for field in FIELDS if "text" in field.kinds).difference(*SPELLINGS.values())
"""The fields of a completion that the OpenAI dialect has and the service's own does not."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request of the service's own."""

    request: GenerationRequest
    """What it is without a session."""
    prompt: str
    session_id: str | None = None
    system_prompt: str | None = None
    """None: not said."""
    images: tuple[str, ...] = ()
    """Shown with the prompt."""
    device: Device | None = None
    events: bool = False


def chat_dialect(body: Json) -> Spoken:
    """Whose body came to `/chat/completions`: with `messages` OpenAI's, with `prompt` the service's own."""
    match body.get("messages") is not None, body.get("prompt") is not None:
        case True, False:
            return "openai"
        case False, True:
            return "service"
        case True, True:
            raise InvalidRequest(
                "The body holds both 'messages' (OpenAI's chat) and 'prompt' (this service's own): send one of them.",
                param="messages", code="invalid_value",
            )  # fmt: skip
    raise InvalidRequest(
        "The body holds neither 'messages' (OpenAI's chat) nor 'prompt' (this service's own): send one of them.",
        param="prompt", code="missing_required_parameter",
    )  # fmt: skip


def text_dialect(body: Json) -> Spoken:
    """Whose body came to `/completions`: the service's own unless it holds a field that only OpenAI's has."""
    said = (name for name, value in body.items() if value is not None)
    return "service" if OPENAIS_OWN.isdisjoint(said) else "openai"


def parse_text(body: Json) -> Asked:
    """The body of `POST /completions`. Raises InvalidRequest naming the parameter at fault."""
    for name in ("session_id", "system_prompt", "images"):
        if any(body.get(spelling) is not None for spelling in SPELLINGS[name]):
            raise InvalidRequest(
                f"'{spelling_of(name, body)}' is not for completions: it is of chats, at /chat/completions.",
                param=spelling_of(name, body), code="unsupported_parameter",
            )  # fmt: skip
    checked, extensions = _checked(body, ServiceText)
    fields = {"prompt": checked.prompt, **_sampling(checked)}
    return _asked(checked, "text", fields, extensions, stream=bool(checked.stream))


def parse_chat(body: Json) -> Asked:
    """The body of `POST /chat/completions`. Raises InvalidRequest naming the parameter at fault."""
    checked, extensions = _checked(body, ServiceChat)
    if checked.stream is False:
        raise InvalidRequest(
            "This chat always streams. For one whole answer send 'messages', or ask /completions.",
            param="stream", code="unsupported_value",
        )  # fmt: skip
    system = [{"role": "system", "content": checked.system_prompt}] if checked.system_prompt else []
    fields = {
        "messages": [*system, {"role": "user", "content": content_of(checked.prompt, checked.images or ())}],
        **_sampling(checked),
    }
    return _asked(checked, "chat", fields, extensions, stream=True)


def _checked(body: Json, schema: type[ServiceRequest]) -> tuple[Any, Json]:
    known, extensions = one_spelling(body)
    try:
        return schema.model_validate(known), extensions
    except ValidationError as error:
        mistake = explained(error.errors(include_url=False), known)
    name = mistake.param or ""
    said = spelling_of(name, body)
    raise InvalidRequest(mistake.message.replace(f"'{name}'", f"'{said}'", 1), param=said, code=mistake.code)


def _sampling(checked: ServiceRequest) -> Json:
    stop = [checked.stop] if isinstance(checked.stop, str) else checked.stop
    fields = {
        "max_tokens": checked.max_tokens, "temperature": checked.temperature, "top_p": checked.top_p,
        "top_k": -1 if checked.top_k == 0 else checked.top_k, "repetition_penalty": checked.repeat_penalty,
        "stop": stop or None,
    }  # fmt: skip
    return {name: value for name, value in fields.items() if value is not None}


def _asked(checked: Any, kind: Literal["chat", "text"], fields: Json, extensions: Json, *, stream: bool) -> Asked:
    return Asked(
        request=GenerationRequest(
            kind=kind, model=checked.model, fields=fields, stream=stream, extensions=extensions,
            prompt_field="prompt",
        ),
        prompt=checked.prompt,
        session_id=getattr(checked, "session_id", None),
        system_prompt=getattr(checked, "system_prompt", None),
        images=tuple(getattr(checked, "images", None) or ()),
        device=checked.device,
        events=bool(checked.events),
    )  # fmt: skip
