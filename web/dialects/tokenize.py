"""`/tokenize` and `/detokenize`, in the shapes of vLLM and SGLang. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import orjson
from pydantic import Field

from web.dialects.openai import message_for_engines
from web.dialects.openai_schema import Message, Open, Several, TemplateVariables, Token, Tool
from web.dialects.openai_tools import settle_tools
from web.dialects.validation import validated
from web.errors import EngineBroken, EngineRefused, InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.settings import Model
    from web.errors import ServiceError

MOST_TOKENS = 1_000_000
REFUSED = {
    "return_token_strs": "Use /detokenize.",
    "continue_final_message": "A chat is tokenized as it is answered.",
}


class TokenizeRequest(Open):
    """`POST /tokenize`: a `prompt` or `messages`, one of them."""

    model: str
    prompt: str | None = None
    messages: Several[Message] | None = None
    tools: list[Tool] | None = None
    chat_template_kwargs: TemplateVariables | None = None
    add_special_tokens: bool | None = None


class DetokenizeRequest(Open):
    """`POST /detokenize`."""

    model: str
    tokens: Annotated[list[Token], Field(max_length=MOST_TOKENS)]


@dataclass(frozen=True, kw_only=True)
class Tokenizing:
    """Of `prompt` and `chat` (fields of a chat request) one is not None."""

    model: str
    prompt: str | None
    chat: Mapping[str, Any] | None
    special: bool


def parse_tokenize(body: bytes) -> Tokenizing:
    """Raises InvalidRequest naming the parameter at fault."""
    given = validated(body, TokenizeRequest, refused=REFUSED)
    prompt, messages = given.get("prompt"), given.get("messages")
    if (prompt is None) == (messages is None):
        raise InvalidRequest(
            "One of 'prompt' and 'messages' is required, and not both.",
            param="prompt",
            code="missing_required_parameter" if prompt is None else "invalid_value",
        )
    chat: dict[str, Any] | None = None
    if messages is not None:
        chat = {name: given[name] for name in ("tools", "chat_template_kwargs") if given.get(name)}
        chat["messages"] = [message_for_engines(message) for message in messages]
        settle_tools(chat)
    return Tokenizing(
        model=given["model"], prompt=prompt, chat=chat, special=given.get("add_special_tokens") is not False
    )


def parse_detokenize(body: bytes) -> tuple[str, list[int]]:
    """The model and the tokens. Raises InvalidRequest naming the parameter at fault."""
    given = validated(body, DetokenizeRequest, refused={})
    return given["model"], given["tokens"]


def tokenize_answer(tokens: list[int], model: Model) -> bytes:
    return orjson.dumps({"count": len(tokens), "max_model_len": model.context_length, "tokens": tokens})


def detokenize_answer(text: str) -> bytes:
    """`prompt` is vLLM's name of it, `text` SGLang's."""
    return orjson.dumps({"prompt": text, "text": text})


def detokenize_error(error: ServiceError) -> ServiceError:
    """An engine's refusal of a token. llama.cpp calls an id beyond its vocabulary a failure of its own."""
    unknown = isinstance(error, EngineBroken) and "range_check" in error.message
    if unknown or isinstance(error, EngineRefused):
        return EngineRefused("A token is none of the model's vocabulary.", param="tokens", code="invalid_value")
    return error
