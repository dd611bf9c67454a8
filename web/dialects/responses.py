"""Requests of OpenAI's Responses API: bytes to the internal request, and what of them the answer repeats."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from web.dialects.json_schema import check_schema
from web.dialects.openai_tools import check_function
from web.dialects.request import GenerationRequest
from web.dialects.responses_input import conversation
from web.dialects.responses_schema import PARTLY, REFUSED, CountRequest, ResponsesRequest
from web.dialects.validation import validated
from web.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Json = dict[str, Any]

LOGPROBS = "message.output_text.logprobs"


@dataclass(frozen=True, kw_only=True)
class ResponsesCall:
    """What a caller of the Responses API asks for, before it is known what came before."""

    blank: GenerationRequest
    """The request without its messages."""
    repeated: Mapping[str, Any]
    """The fields of the answer that are known before it."""
    input: tuple[Json, ...]
    instructions: str | None
    store: bool
    """Whether the response is to be stored."""
    previous: str | None
    """The id of the response that it continues."""
    conversation: str | None
    """The id of the conversation that it is a part of."""
    truncated: bool
    """Whether the oldest items may be left out where they are too long."""

    @property
    def alone(self) -> bool:
        """Whether its request is all that it takes, and its answer all that there is to it."""
        return not (self.store or self.previous or self.conversation or self.truncated)

    def request(
        self, items: Iterable[Json] | None = None, *, history: Iterable[Json] = (), affinity: str | None = None
    ) -> GenerationRequest:
        """`items`: in the place of its `input`. `history`: what came before. `affinity`: of who names none."""
        told = conversation(self.input if items is None else items, instructions=self.instructions, history=history)
        return replace(
            self.blank, fields={"messages": told.messages, **self.blank.fields}, introduced=told.introduced,
            remembered=told.remembered, affinity=self.blank.affinity or affinity,
        )  # fmt: skip


def parse_responses(body: bytes) -> ResponsesCall:
    """The body of `POST /v1/responses`. Raises InvalidRequest naming the parameter at fault."""
    return _call(validated(body, ResponsesRequest, refused=REFUSED), ResponsesRequest)


def parse_count(body: bytes) -> ResponsesCall:
    """The body of `POST /v1/responses/input_tokens`: the request whose prompt is to be counted. Raises InvalidRequest
    naming the parameter at fault."""
    return _call(validated(body, CountRequest, refused=REFUSED), CountRequest)


def _call(given: Json, schema: type[CountRequest]) -> ResponsesCall:
    _check_partly(given)
    previous, part_of = given.get("previous_response_id") or None, _conversation_of(given)
    if previous and part_of:
        raise InvalidRequest(
            "Mutually exclusive parameters: 'previous_response_id' and 'conversation'. Ensure you are only providing "
            "one of: 'previous_response_id' or 'conversation'.",
            param="previous_response_id", code="mutually_exclusive_parameters",
        )  # fmt: skip
    said = given.get("input")
    if said is None and not previous and not part_of:
        code = "missing_required_parameter"
        raise InvalidRequest("Missing required parameter: 'input'.", param="input", code=code)
    return ResponsesCall(
        blank=_request(given, schema), repeated=_repeated(given),
        input=({"role": "user", "content": said},) if isinstance(said, str) else tuple(said or ()),
        instructions=given.get("instructions"), store=given.get("store") is not False, previous=previous,
        conversation=part_of, truncated=given.get("truncation") == "auto",
    )  # fmt: skip


def _conversation_of(given: Json) -> str | None:
    named = given.get("conversation")
    told: str | None = named["id"] if isinstance(named, dict) else named
    return told or None


def _request(given: Json, schema: type[CountRequest]) -> GenerationRequest:
    fields: Json = {}
    if (limit := given.get("max_output_tokens")) is not None:
        fields["max_tokens"] = limit
    for name in ("temperature", "top_p"):
        if given.get(name) is not None:
            fields[name] = given[name]
    if given.get("top_logprobs") or LOGPROBS in (given.get("include") or ()):
        fields |= {"logprobs": True, "top_logprobs": given.get("top_logprobs") or 0}
    if (effort := (given.get("reasoning") or {}).get("effort")) is not None:
        fields["reasoning_effort"] = effort
    if (form := _response_format((given.get("text") or {}).get("format"))) is not None:
        fields["response_format"] = form
    _add_tools(fields, given)
    known = schema.model_fields
    return GenerationRequest(
        kind="chat",
        model=given["model"],
        fields=fields,
        stream=bool(given.get("stream")),
        affinity=given.get("prompt_cache_key") or None,
        prompt_field="input",
        extensions={name: value for name, value in given.items() if name not in known},
    )


def _check_partly(given: Json) -> None:
    at_fault = {
        "prompt_cache_options": bool((given.get("prompt_cache_options") or {}).get("prewarm")),
    }
    for name, reason in PARTLY.items():
        if at_fault[name]:
            raise InvalidRequest(f"Unsupported value for '{name}'. {reason}", param=name, code="unsupported_value")


def _response_format(form: Json | None) -> Json | None:
    if form is None or form["type"] == "text":
        return None
    if form["type"] == "json_object":
        return {"type": "json_object"}
    check_schema(form["schema"], "text.format.schema")
    told = {name: form[name] for name in ("name", "schema", "strict", "description") if form.get(name) is not None}
    return {"type": "json_schema", "json_schema": told}


def _add_tools(fields: Json, given: Json) -> None:
    tools, choice = given.get("tools") or [], given.get("tool_choice")
    known: set[str] = set()
    for index, tool in enumerate(tools):
        check_function(tool, known, f"tools[{index}]")
    if isinstance(choice, dict):
        tools, choice = _chosen(tools, choice)
    if not tools:
        if choice not in (None, "none", "auto"):
            raise InvalidRequest(
                "'tool_choice' is only allowed with 'tools'.", param="tool_choice", code="invalid_value"
            )
        return
    fields["tools"] = [_tool(tool) for tool in tools]
    if choice is not None:
        fields["tool_choice"] = choice
    if given.get("parallel_tool_calls") is not None:
        fields["parallel_tool_calls"] = given["parallel_tool_calls"]


def _chosen(tools: list[Json], choice: Json) -> tuple[list[Json], str | Json]:
    """The tools that the engine is to know, and its choice among them."""
    if choice["type"] == "function":
        name = _named(tools, choice, path="tool_choice")
        return tools, {"type": "function", "function": {"name": name}}
    for field in ("mode", "tools"):
        if choice.get(field) is None:
            param = f"tool_choice.{field}"
            code = "missing_required_parameter"
            raise InvalidRequest(f"Missing required parameter: '{param}'.", param=param, code=code)
    allowed = {_named(tools, tool, path=f"tool_choice.tools[{index}]") for index, tool in enumerate(choice["tools"])}
    return [tool for tool in tools if tool["name"] in allowed], choice["mode"]


def _named(tools: list[Json], choice: Json, *, path: str) -> str:
    name = choice.get("name")
    if not isinstance(name, str) or all(tool["name"] != name for tool in tools):
        raise InvalidRequest(f"'{path}.name': there is no tool '{name}'.", param=f"{path}.name", code="invalid_value")
    return name


def _tool(tool: Json) -> Json:
    named = ("name", "description", "parameters", "strict")
    return {"type": "function", "function": {name: tool[name] for name in named if tool.get(name) is not None}}


def _repeated(given: Json) -> Json:
    """In the answer, what a caller left out is what it means to leave it out; how an engine samples by default is not
    known here."""
    text = given.get("text") or {}
    parallel = given.get("parallel_tool_calls")
    same = (
        "instructions", "max_output_tokens", "max_tool_calls", "prompt_cache_key", "safety_identifier", "temperature",
        "top_p", "user",
    )  # fmt: skip
    part_of = _conversation_of(given)
    return {name: given.get(name) for name in same} | {
        "background": False,
        "conversation": None if part_of is None else {"id": part_of},
        "metadata": given.get("metadata") or {},
        "parallel_tool_calls": True if parallel is None else parallel,
        "previous_response_id": given.get("previous_response_id") or None,
        "prompt": None,
        "reasoning": {"effort": (given.get("reasoning") or {}).get("effort"), "summary": None},
        "service_tier": "default",
        "store": given.get("store") is not False,
        "text": {"format": text.get("format") or {"type": "text"}},
        "tool_choice": given.get("tool_choice") or "auto",
        "tools": given.get("tools") or [],
        "top_logprobs": given.get("top_logprobs") or 0,
        "truncation": given.get("truncation") or "disabled",
    }
