"""The requests of OpenAI's Responses API as types, and what becomes of each of their fields.

As with chat completions: nulls are taken for every optional field, unknown fields everywhere, and types are strict.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag

from web.dialects.openai_schema import Count, ImageAddress, Open, Probability

HONOURED = {
    "model": "An id or a name.",
    "input": "A string, or items: messages (text, and images where the model has `vision = true`), function calls and "
    "their outputs, reasoning. References to stored items and the items of built-in tools are refused by name. Needed "
    "unless something is continued.",
    "instructions": "",
    "tools": "Functions. Built-in, custom and MCP tools are refused by name.",
    "tool_choice": "All forms of functions; `allowed_tools` too.",
    "parallel_tool_calls": "",
    "text": "`format`: enforced by the engine's grammar. `verbosity` is ignored: a preference that open models do "
    "not have.",
    "previous_response_id": "Of a stored response: what it answered and its answer come before `input`; its "
    "`instructions` do not. Not with `conversation`.",
    "conversation": "An id, or an object with it: its items come before `input`; `input` and the answer are added to "
    "it once that is complete.",
    "store": "True unless set: the response is kept for `responses.ttl_seconds`.",
    "truncation": "`auto`: where it is too long for the model, the older items are left out, up to one of the user's "
    "messages. `disabled`: that is a 400.",
    "metadata": "Up to 16 pairs, kept with the response.",
    "reasoning": "`effort`, for models whose chat template knows it. Reasoning is told in full, as `reasoning_text`, "
    "so that `summary` adds nothing.",
    "max_output_tokens": "",
    "temperature": "",
    "top_p": "",
    "top_logprobs": "Up to 20.",
    "include": "`message.output_text.logprobs`. Images of the input are always there; whatever else can be included is "
    "of tools that are not here.",
    "stream": "",
    "prompt_cache_key": "Requests with the same key meet the same engine container and its prefix cache.",
}

IGNORED = {
    "stream_options": "It obscures sizes, which adds nothing to the answer.",
    "user": "Repeated in the answer.",
    "safety_identifier": "Repeated in the answer.",
    "max_tool_calls": "It counts the calls of built-in tools, and there are none.",
    "service_tier": "There is one tier.",
    "prompt_cache_retention": "Engines keep prefixes as long as they have room.",
    "access_programs": "There are none.",
    "image": "How images are compressed is the engine's affair.",
}
"""Ignored by contract, each with the reason why that changes no answer."""

REFUSED = {
    "background": "An answer is made while its caller listens, since nothing else keeps a container up: use 'stream' "
    "where it takes long, or a batch.",
    "background_options": "There is no work in the background.",
    "prompt": "Prompts are not stored here: send 'instructions' and 'input'.",
    "context_management": "Contexts are not compacted here: send the items that the model shall see.",
    "moderation": "There is no moderation here.",
}
"""Fields that change the answer and are not honoured: said so, unless they are null, false or empty."""

PARTLY = {
    "prompt_cache_options": "A cache is not warmed without an answer: 'prewarm' is not supported.",
}
"""Fields of which some values are refused and the others change nothing."""


class InputText(Open):
    type: Literal["input_text"]
    text: str


class OutputText(Open):
    type: Literal["output_text"]
    text: str


class Refusal(Open):
    type: Literal["refusal"]
    refusal: str


class InputImage(Open):
    """By its URL, which may be a `data:` one: files are not kept here."""

    type: Literal["input_image"]
    image_url: ImageAddress
    detail: str | None = None


Part = Annotated[InputText | OutputText | Refusal | InputImage, Field(discriminator="type")]
ResultPart = Annotated[InputText | InputImage, Field(discriminator="type")]


class MessageItem(Open):
    type: Literal["message"] | None = None
    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[Part]


class FunctionCallItem(Open):
    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str


class FunctionResultItem(Open):
    type: Literal["function_call_output"]
    call_id: str
    output: str | list[ResultPart]


class Thought(Open):
    text: str


class ReasoningItem(Open):
    type: Literal["reasoning"]
    summary: list[Thought] | None = None
    content: list[Thought] | None = None


def _no_item(kind: str) -> str:
    raise ValueError(f"items of type '{kind}' are not supported")


class OtherItem(Open):
    type: Annotated[str, AfterValidator(_no_item)]


KINDS = ("message", "function_call", "function_call_output", "reasoning")


def _kind_of(item: Any) -> str:
    """An item without a type is a message if it has a role, and else a reference."""
    if not isinstance(item, dict):
        return "other"
    kind = item.get("type") or ("message" if "role" in item else "other")
    return kind if kind in KINDS else "other"


Item = Annotated[
    Annotated[MessageItem, Tag("message")]
    | Annotated[FunctionCallItem, Tag("function_call")]
    | Annotated[FunctionResultItem, Tag("function_call_output")]
    | Annotated[ReasoningItem, Tag("reasoning")]
    | Annotated[OtherItem, Tag("other")],
    Discriminator(_kind_of),
]


def _callers_own(kind: str) -> str:
    if kind != "function":
        raise ValueError(f"'{kind}' is not available here: there are no tools but the caller's own ('function')")
    return kind


class Tool(Open):
    type: Annotated[str, AfterValidator(_callers_own)]
    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")]
    parameters: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


def _known_choice(kind: str) -> str:
    if kind not in ("function", "allowed_tools"):
        raise ValueError(f"'{kind}' is not available here: there are no tools but the caller's own ('function')")
    return kind


class ToolChoice(Open):
    """`function` has a `name`; `allowed_tools` has a `mode` and `tools`."""

    type: Annotated[str, AfterValidator(_known_choice)]
    name: str | None = None
    mode: Literal["auto", "required"] | None = None
    tools: list[dict[str, Any]] | None = None


class PlainFormat(Open):
    type: Literal["text", "json_object"]


class SchemaFormat(Open):
    type: Literal["json_schema"]
    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    description: str | None = None
    strict: bool | None = None


class TextConfig(Open):
    format: Annotated[PlainFormat | SchemaFormat, Field(discriminator="type")] | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class Reasoning(Open):
    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None


class StreamOptions(Open):
    include_obfuscation: bool | None = None


Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]], Field(max_length=16)
]


class PartOf(Open):
    """A conversation."""

    id: str


class CountRequest(Open):
    """`POST /v1/responses/input_tokens`."""

    model: str
    input: str | Annotated[list[Item], Field(min_length=1)] | None = None
    previous_response_id: str | None = None
    conversation: str | PartOf | None = None
    instructions: str | None = None
    tools: list[Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    text: TextConfig | None = None
    reasoning: Reasoning | None = None
    truncation: Literal["auto", "disabled"] | None = None


class ResponsesRequest(CountRequest):
    """`POST /v1/responses`."""

    max_output_tokens: Count | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Probability | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    include: list[str] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    store: bool | None = None
    metadata: Metadata | None = None
    user: str | None = None
    safety_identifier: str | None = None
    max_tool_calls: int | None = None
    service_tier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
