"""OpenAI's requests and errors: bytes to the internal request, and errors to bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from web.dialects.openai_schema import ChatRequest, TextRequest
from web.dialects.request import GenerationRequest
from web.dialects.validation import validated
from web.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from web.dialects.openai_schema import Sampling
    from web.errors import WireError

Json = dict[str, Any]

SAMPLING_FIELDS = (
    "max_tokens", "temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty",
    "repetition_penalty", "n", "seed", "stop", "logit_bias", "logprobs",
)  # fmt: skip
CHAT_FIELDS = (
    *SAMPLING_FIELDS, "messages", "top_logprobs", "response_format", "tools", "tool_choice", "parallel_tool_calls",
    "reasoning_effort", "chat_template_kwargs",
)  # fmt: skip
TEXT_FIELDS = (*SAMPLING_FIELDS, "prompt")
"""What reaches an engine. Everything else is ignored by contract, as OpenAI ignores what it does not know."""

REFUSED = {
    "functions": "It was replaced by 'tools'.",
    "function_call": "It was replaced by 'tool_choice'.",
    "audio": "The models here speak text.",
    "prediction": "Predicted outputs are not available.",
    "web_search_options": "There is no web search here.",
    "suffix": "Insertion is not available.",
    "best_of": "Use 'n'.",
    "echo": "The prompt is not repeated.",
}
"""Fields that change the answer and are not honoured: said so, not dropped, unless they are null, false or empty."""


def parse_chat(body: bytes) -> GenerationRequest:
    """The body of `POST /v1/chat/completions`. Raises InvalidRequest naming the parameter at fault."""
    given = validated(body, ChatRequest, refused=REFUSED)
    fields = {name: given[name] for name in CHAT_FIELDS if given.get(name) is not None}
    if (limit := given.get("max_completion_tokens")) is not None:
        fields["max_tokens"] = limit
    fields["messages"] = [_message(message) for message in given["messages"]]
    _check_tools(fields)
    if fields.get("top_logprobs") is not None and not fields.get("logprobs"):
        raise InvalidRequest("'top_logprobs' needs 'logprobs' to be true.", param="top_logprobs", code="invalid_value")
    if (modalities := given.get("modalities")) and modalities != ["text"]:
        raise InvalidRequest(
            "'modalities' is not supported: the models here answer in text.",
            param="modalities",
            code="unsupported_value",
        )
    return _request("chat", given, fields, choices=fields.get("n", 1), known=ChatRequest)


def parse_text(body: bytes) -> GenerationRequest:
    """The body of `POST /v1/completions`. Raises InvalidRequest naming the parameter at fault."""
    given = validated(body, TextRequest, refused=REFUSED)
    fields = {name: given[name] for name in TEXT_FIELDS if given.get(name) is not None}
    prompt = fields["prompt"]
    prompts = len(prompt) if isinstance(prompt, list) and not isinstance(prompt[0], int) else 1
    return _request("text", given, fields, choices=fields.get("n", 1) * prompts, known=TextRequest)


def error_body(error: WireError) -> bytes:
    """OpenAI's error object, nested: openai-node reads nothing else."""
    told = {"message": error.message, "type": error.type, "param": error.param, "code": error.code}
    return orjson.dumps({"error": told})


def _message(message: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**message, "role": "system"} if message["role"] == "developer" else message


def _check_tools(fields: Json) -> None:
    if fields.get("tools"):
        return
    fields.pop("tools", None)
    fields.pop("parallel_tool_calls", None)
    choice = fields.pop("tool_choice", None)
    if choice not in (None, "none", "auto"):
        raise InvalidRequest("'tool_choice' is only allowed with 'tools'.", param="tool_choice", code="invalid_value")


def _request(kind: Any, given: Json, fields: Json, *, choices: int, known: type[Sampling]) -> GenerationRequest:
    options = given.get("stream_options") or {}
    mine = known.model_fields
    return GenerationRequest(
        kind=kind,
        model=given["model"],
        fields=fields,
        choices=choices,
        stream=bool(given.get("stream")),
        include_usage=bool(options.get("include_usage")),
        affinity=given.get("prompt_cache_key") or None,
        extensions={name: value for name, value in given.items() if name not in mine},
    )
