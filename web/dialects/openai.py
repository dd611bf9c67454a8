"""OpenAI's requests and errors: bytes to the internal request, and errors to bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from web.dialects.fields import FIELDS, names, refusals
from web.dialects.openai_schema import ChatRequest, TextRequest
from web.dialects.openai_tools import settle_format, settle_tools
from web.dialects.request import GenerationRequest
from web.dialects.validation import validated
from web.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from web.dialects.request import Kind
    from web.errors import WireError

Json = dict[str, Any]

CHAT_FIELDS, TEXT_FIELDS = frozenset(names("chat", "engine")), frozenset(names("text", "engine"))
"""What reaches an engine as it is."""
CHAT_REFUSALS, TEXT_REFUSALS = refusals("chat"), refusals("text")
MOST_CHOICES = 2048
KNOWN = {kind: frozenset(field.name for field in FIELDS if kind in field.kinds) for kind in ("chat", "text")}
TEXT_TOKENS = 16
"""A completion's length unless it is said: OpenAI's, and SGLang's. llama.cpp's would be the whole context."""


def parse_chat(body: bytes) -> GenerationRequest:
    """The body of `POST /v1/chat/completions`. Raises InvalidRequest naming the parameter at fault."""
    given = validated(body, ChatRequest, refused=CHAT_REFUSALS)
    fields = {name: value for name, value in given.items() if name in CHAT_FIELDS and value is not None}
    if (limit := given.get("max_completion_tokens")) is not None:
        fields["max_tokens"] = limit
    if given.get("parallel_tool_calls") is not None:
        fields["parallel_tool_calls"] = given["parallel_tool_calls"]
    fields["messages"] = [message_for_engines(message) for message in given["messages"]]
    settle_tools(fields)
    settle_format(fields)
    _settle_logprobs(fields)
    _settle_stop(fields)
    if (modalities := given.get("modalities")) and modalities != ["text"]:
        raise InvalidRequest(
            "'modalities' is not supported: the models here answer in text.",
            param="modalities",
            code="unsupported_value",
        )
    return _request("chat", given, fields, choices=fields.get("n", 1))


def parse_text(body: bytes) -> GenerationRequest:
    """The body of `POST /v1/completions`. Raises InvalidRequest naming the parameter at fault."""
    given = validated(body, TextRequest, refused=TEXT_REFUSALS)
    fields = {name: value for name, value in given.items() if name in TEXT_FIELDS and value is not None}
    fields.setdefault("max_tokens", TEXT_TOKENS)
    _settle_stop(fields)
    prompt = fields["prompt"]
    prompts = len(prompt) if isinstance(prompt, list) and not isinstance(prompt[0], int) else 1
    choices = fields.get("n", 1) * prompts
    if choices > MOST_CHOICES:
        raise InvalidRequest(
            f"The prompts, each answered 'n' times, make {choices} choices: there may be {MOST_CHOICES}.",
            param="prompt", code="invalid_value",
        )  # fmt: skip
    return _request("text", given, fields, choices=choices)


def error_body(error: WireError) -> bytes:
    """OpenAI's error object, nested: openai-node reads nothing else."""
    told = {"message": error.message, "type": error.type, "param": error.param, "code": error.code}
    return orjson.dumps({"error": told})


def message_for_engines(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """A message as engines know it: `developer` is `system`, a refusal is what was said."""
    content = message.get("content")
    if isinstance(content, list) and any(part["type"] == "refusal" for part in content):
        parts = [{"type": "text", "text": part["refusal"]} if part["type"] == "refusal" else part for part in content]
        message = {**message, "content": parts}
    return {**message, "role": "system"} if message["role"] == "developer" else message


def _settle_stop(fields: Json) -> None:
    """An empty string stops nothing; engines would stop at once."""
    if isinstance(stop := fields.get("stop"), list):
        stop = [text for text in stop if text]
    if stop:
        fields["stop"] = stop
    else:
        fields.pop("stop", None)


def _settle_logprobs(fields: Json) -> None:
    if fields.get("top_logprobs") is None or fields.get("logprobs"):
        return
    if fields["top_logprobs"]:
        raise InvalidRequest("'top_logprobs' needs 'logprobs' to be true.", param="top_logprobs", code="invalid_value")
    del fields["top_logprobs"]


def _request(kind: Kind, given: Json, fields: Json, *, choices: int) -> GenerationRequest:
    options = given.get("stream_options") or {}
    return GenerationRequest(
        kind=kind,
        model=given["model"],
        fields=fields,
        choices=choices,
        stream=bool(given.get("stream")),
        include_usage=bool(options.get("include_usage")),
        affinity=given.get("prompt_cache_key") or None,
        extensions={name: value for name, value in given.items() if name not in KNOWN[kind]},
    )
