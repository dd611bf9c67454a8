"""OpenAI's requests and errors: bytes to the internal request, and errors to bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from pydantic import ValidationError

from web.dialects.openai_schema import ChatRequest, TextRequest
from web.dialects.request import GenerationRequest
from web.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic_core import ErrorDetails

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
    given = _validated(body, ChatRequest)
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
    given = _validated(body, TextRequest)
    fields = {name: given[name] for name in TEXT_FIELDS if given.get(name) is not None}
    prompt = fields["prompt"]
    prompts = len(prompt) if isinstance(prompt, list) and not isinstance(prompt[0], int) else 1
    return _request("text", given, fields, choices=fields.get("n", 1) * prompts, known=TextRequest)


def error_body(error: WireError) -> bytes:
    """OpenAI's error object, nested: openai-node reads nothing else."""
    told = {"message": error.message, "type": error.type, "param": error.param, "code": error.code}
    return orjson.dumps({"error": told})


def _validated(body: bytes, schema: type[Sampling]) -> Json:
    try:
        given = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        reason = str(error).partition(":")[0]
        raise InvalidRequest(f"The request's body is not JSON: {reason}.", code="invalid_json") from None
    if not isinstance(given, dict):
        raise InvalidRequest("The request's body is not a JSON object.", code="invalid_json")
    for name, reason in REFUSED.items():
        if given.get(name):
            raise InvalidRequest(f"'{name}' is not supported. {reason}", param=name, code="unsupported_parameter")
    try:
        schema.model_validate(given)
    except ValidationError as error:
        raise _explained(error.errors(include_url=False), given) from None
    return given


def _explained(mistakes: list[ErrorDetails], given: Json) -> InvalidRequest:
    """The mistake that lies deepest, and there a wrong value before a wrong type: of the branches of a union, that
    is the one which the caller meant."""
    paths = [(_where(mistake, given), mistake) for mistake in mistakes]
    path, mistake = max(paths, key=lambda pair: (len(pair[0]), not _of_type(pair[1])))
    param = _spelled(path)
    if mistake["type"] in ("missing", "union_tag_not_found"):
        return InvalidRequest(f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter")
    kind = "invalid_type" if _of_type(mistake) else "invalid_value"
    alike = {other["msg"] for where, other in paths if where == path and _of_type(other) == _of_type(mistake)}
    return InvalidRequest(f"Invalid value for '{param}': {'; or '.join(sorted(alike))}.", param=param, code=kind)


def _of_type(mistake: ErrorDetails) -> bool:
    return mistake["type"].endswith("_type")


def _where(mistake: ErrorDetails, given: Json) -> list[int | str]:
    path = _path(mistake["loc"], given)
    if mistake["type"] in ("union_tag_invalid", "union_tag_not_found"):
        path.append(mistake["ctx"]["discriminator"].strip("'"))
    return path


def _path(location: tuple[int | str, ...], given: Any) -> list[int | str]:
    """Where in the body a mistake lies: pydantic's location without the names of union branches."""
    path: list[int | str] = []
    here = given
    for position, step in enumerate(location):
        last = position == len(location) - 1
        if isinstance(here, dict) and isinstance(step, str) and (step in here or last):
            here = here.get(step)
        elif isinstance(here, list) and isinstance(step, int) and step < len(here):
            here = here[step]
        else:
            continue
        path.append(step)
    return path


def _spelled(path: list[int | str]) -> str:
    spelled = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return spelled.removeprefix(".")


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
