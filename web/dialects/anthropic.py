"""Anthropic's requests and errors: bytes to the internal request, and errors to bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from web.dialects.anthropic_messages import conversation
from web.dialects.anthropic_schema import REFUSAL_CODES, REFUSED, CountRequest, MessagesRequest
from web.dialects.json_schema import check_schema
from web.dialects.openai_tools import check_function
from web.dialects.request import GenerationRequest
from web.dialects.validation import validated
from web.errors import InvalidRequest

if TYPE_CHECKING:
    from web.errors import WireError

Json = dict[str, Any]

ERROR_TYPES = {
    400: "invalid_request_error", 401: "authentication_error", 402: "billing_error", 403: "permission_error",
    404: "not_found_error", 409: "conflict_error", 413: "request_too_large", 429: "rate_limit_error",
    503: "overloaded_error", 504: "timeout_error", 529: "overloaded_error",
}  # fmt: skip
"""By status. Others: an invalid request below 500, Anthropic's `api_error` from there on."""

CHOICES = {"auto": "auto", "any": "required", "none": "none"}


@dataclass(frozen=True, kw_only=True)
class MessagesCall:
    """What a caller of the Messages API asks for. `hide_thinking`: the model may think, and does not tell what.
    `edits`: the context is to be edited, and the answer to tell how."""

    request: GenerationRequest
    hide_thinking: bool
    edits: bool


def parse_messages(body: bytes) -> MessagesCall:
    """The body of `POST /v1/messages`. Raises InvalidRequest naming the parameter at fault."""
    given = validated(body, MessagesRequest, refused=REFUSED, codes=REFUSAL_CODES)
    display = (given.get("thinking") or {}).get("display")
    edits = bool(given.get("context_management"))
    return MessagesCall(request=_request(given, MessagesRequest), hide_thinking=display == "omitted", edits=edits)


def parse_count(body: bytes) -> GenerationRequest:
    """The body of `POST /v1/messages/count_tokens`: the request whose prompt is to be counted. Raises InvalidRequest
    naming the parameter at fault."""
    return _request(validated(body, CountRequest, refused=REFUSED, codes=REFUSAL_CODES), CountRequest)


def error_body(error: WireError, *, request_id: str | None) -> bytes:
    """Anthropic's error object. It has no place for the parameter at fault: the message names it."""
    unnamed = error.param is not None and error.param not in error.message
    message = f"{error.param}: {error.message}" if unnamed else error.message
    inner: Json = {"type": error_type(error.status), "message": message}
    if error.code is not None:
        inner["details"] = {"error_code": error.code}
    told = {"type": "error", "error": inner}
    return orjson.dumps(told if request_id is None else told | {"request_id": request_id})


def error_type(status: int) -> str:
    """What Anthropic calls an error of this status."""
    return ERROR_TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")


def _request(given: Json, schema: type[CountRequest]) -> GenerationRequest:
    messages, unfinished = conversation(given["messages"], system=given.get("system"))
    fields: Json = {"messages": messages}
    for name in ("max_tokens", "temperature", "top_p"):
        if given.get(name) is not None:
            fields[name] = given[name]
    if top_k := given.get("top_k"):  # 0: all of them
        fields["top_k"] = top_k
    if stops := given.get("stop_sequences"):
        fields["stop"] = stops
    _add_tools(fields, given)
    _add_thinking(fields, given, unfinished=unfinished)
    if unfinished:
        fields["continue_final_message"] = True
    _add_output(fields, given.get("output_config") or {})
    known = schema.model_fields
    return GenerationRequest(
        kind="chat",
        model=given["model"],
        fields=fields,
        stream=bool(given.get("stream")),
        affinity=(given.get("metadata") or {}).get("user_id") or None,
        extensions={name: value for name, value in given.items() if name not in known},
    )


def _add_tools(fields: Json, given: Json) -> None:
    tools, choice = given.get("tools") or [], given.get("tool_choice")
    if not tools:
        if choice is not None and choice["type"] not in ("auto", "none"):
            raise InvalidRequest("'tool_choice' is only allowed with 'tools'.", param="tool_choice")
        return
    known: set[str] = set()
    for index, tool in enumerate(tools):
        check_function(tool, known, f"tools[{index}]", schema="input_schema")
    fields["tools"] = [_tool(tool) for tool in tools]
    if choice is None:
        return
    if choice["type"] == "tool":
        if choice["name"] not in known:
            raise InvalidRequest(f"'tool_choice.name': there is no tool '{choice['name']}'.", param="tool_choice.name")
        fields["tool_choice"] = {"type": "function", "function": {"name": choice["name"]}}
    else:
        fields["tool_choice"] = CHOICES[choice["type"]]
    if choice.get("disable_parallel_tool_use"):
        fields["parallel_tool_calls"] = False


def _tool(tool: Json) -> Json:
    function: Json = {"name": tool["name"], "parameters": tool["input_schema"]}
    for name in ("description", "strict"):
        if tool.get(name) is not None:
            function[name] = tool[name]
    return {"type": "function", "function": function}


def _add_thinking(fields: Json, given: Json, *, unfinished: bool) -> None:
    """Chat templates that can switch thinking do so by one of these two names. `adaptive`, like nothing at all, leaves
    it to the model; but what continues an answer cannot think before it."""
    kind = (given.get("thinking") or {}).get("type")
    if unfinished and kind == "enabled":
        raise InvalidRequest(
            "'thinking' cannot be enabled when the last of 'messages' is the assistant's, to be continued.",
            param="thinking",
        )
    if kind in ("enabled", "disabled") or unfinished:
        wanted = kind == "enabled"
        fields["chat_template_kwargs"] = {"enable_thinking": wanted, "thinking": wanted}


def _add_output(fields: Json, config: Json) -> None:
    if (effort := config.get("effort")) is not None:
        fields["reasoning_effort"] = effort
    if (form := config.get("format")) is not None:
        check_schema(form["schema"], "output_config.format.schema")
        schema = {"name": "answer", "schema": form["schema"], "strict": True}
        fields["response_format"] = {"type": "json_schema", "json_schema": schema}
