"""Anthropic's request bodies as types, and what becomes of each of their fields.

As with OpenAI's: nulls are taken for every optional field, unknown fields everywhere, and types are strict. Bounds are
those of Anthropic's API reference, but for `temperature`, where the engines' own bound (2) holds instead of 1.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from web.dialects.openai_schema import ImageAddress, Open, Probability

HONOURED = {
    "model": "An id or a name.",
    "messages": "Text, images (where the model has `vision = true`), documents of plain text, search results, tools' "
    "calls and results, thinking. One that ends with the assistant's is continued.",
    "system": "A string or blocks of text.",
    "max_tokens": "Required, at least 1.",
    "stop_sequences": "As many as you like. Which of them it was is told where the engine tells it: SGLang does; with "
    "llama.cpp it is an `end_turn`.",
    "stream": "",
    "temperature": "Up to 2.",
    "top_k": "",
    "top_p": "",
    "tools": "The caller's own. Those of Anthropic's servers and clients (`web_search_…`, `bash_…`) are refused by "
    "name.",
    "tool_choice": "All forms; `disable_parallel_tool_use` too.",
    "thinking": "`enabled` and `disabled` for models whose chat template can switch it, `adaptive` leaves it to the "
    "model; `display: omitted` leaves the thoughts out. `budget_tokens` bounds nothing: engines know no budget but "
    "`max_tokens`.",
    "output_config": "`format`: enforced by the engine's grammar. `effort`: for models whose chat template knows it.",
    "metadata": "`user_id`: one user's requests meet the same engine container and its prefix cache.",
    "context_management": "No edit is ever applied, which answers say: `applied_edits` is empty.",
}

IGNORED = {
    "cache_control": "Engines cache every prefix by themselves.",
    "service_tier": "There is one tier.",
    "speed": "There is one speed.",
    "diagnostics": "What was found in the cache is told in usage.",
    "billing_policy": "Nothing is billed.",
    "fallback_credit_token": "Nothing is billed.",
    "user_profile_id": "There are no profiles.",
    "workspace_id": "There are no workspaces.",
    "betas": "A header; what it switches on is here or is not.",
}
"""Ignored by contract, each with the reason why that changes no answer."""

REFUSED = {
    "container": "There is no code execution here.",
    "compaction": "Contexts are not compacted here: send the messages that the model shall see.",
    "mcp_servers": "There is no MCP connector here.",
    "fallbacks": "There is no fallback to other models here.",
    "thread": "Messages are not kept here: send all of them.",
    "inference_geo": "The place of inference cannot be chosen by a request.",
}
"""Fields that change the answer and are not honoured: said so, unless they are null or empty."""

REFUSAL_CODES = {"thread": "thread_unsupported_request"}
"""Codes that mean something to Anthropic's SDK: at this one its tool runner goes on without a thread."""

ToolName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,128}$")]


class TextBlock(Open):
    type: Literal["text"]
    text: str


class Base64Source(Open):
    type: Literal["base64"]
    media_type: Literal["image/jpeg", "image/png", "image/gif", "image/webp"]
    data: str


class UrlSource(Open):
    type: Literal["url"]
    url: ImageAddress


class ImageBlock(Open):
    type: Literal["image"]
    source: Annotated[Base64Source | UrlSource, Field(discriminator="type")]


class PlainTextSource(Open):
    type: Literal["text"]
    data: str


class DocumentBlock(Open):
    """A document of plain text. Others (PDFs, files) are for models that read them."""

    type: Literal["document"]
    source: PlainTextSource
    title: str | None = None
    context: str | None = None


class SearchResultBlock(Open):
    type: Literal["search_result"]
    source: str
    title: str
    content: list[TextBlock]


class ThinkingBlock(Open):
    type: Literal["thinking"]
    thinking: str


class RedactedThinkingBlock(Open):
    type: Literal["redacted_thinking"]


class ToolUseBlock(Open):
    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, Any]


Shown = TextBlock | ImageBlock | DocumentBlock | SearchResultBlock


class ToolResultBlock(Open):
    type: Literal["tool_result"]
    tool_use_id: str
    content: str | list[Annotated[Shown, Field(discriminator="type")]] | None = None
    is_error: bool | None = None


UserBlock = Annotated[Shown | ToolResultBlock, Field(discriminator="type")]
AssistantBlock = Annotated[
    TextBlock | ThinkingBlock | RedactedThinkingBlock | ToolUseBlock, Field(discriminator="type")
]


class UserMessage(Open):
    role: Literal["user"]
    content: str | list[UserBlock]


class AssistantMessage(Open):
    role: Literal["assistant"]
    content: str | list[AssistantBlock]


class SystemMessage(Open):
    """An instruction that comes in the midst of a conversation."""

    role: Literal["system"]
    content: str | list[TextBlock]


Message = Annotated[UserMessage | AssistantMessage | SystemMessage, Field(discriminator="role")]


def _callers_own(kind: str) -> str:
    if kind != "custom":
        raise ValueError(f"'{kind}' is not available here: there are no tools but the caller's own ('custom')")
    return kind


class Tool(Open):
    type: Annotated[str, AfterValidator(_callers_own)] | None = None
    name: ToolName
    input_schema: dict[str, Any]
    description: str | None = None
    strict: bool | None = None


class AnyToolChoice(Open):
    type: Literal["auto", "any", "none"]
    disable_parallel_tool_use: bool | None = None


class NamedToolChoice(Open):
    type: Literal["tool"]
    name: str
    disable_parallel_tool_use: bool | None = None


class BudgetedThinking(Open):
    type: Literal["enabled"]
    budget_tokens: Annotated[int, Field(ge=1024)]
    display: Literal["summarized", "omitted"] | None = None


class Thinking(Open):
    type: Literal["adaptive", "disabled"]
    display: Literal["summarized", "omitted"] | None = None


class JsonFormat(Open):
    type: Literal["json_schema"]
    schema_: Annotated[dict[str, Any], Field(alias="schema")]


class OutputConfig(Open):
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: JsonFormat | None = None


class Metadata(Open):
    user_id: str | None = None


class CountRequest(Open):
    """`POST /v1/messages/count_tokens`."""

    model: str
    messages: Annotated[list[Message], Field(min_length=1)]
    system: str | list[TextBlock] | None = None
    tools: list[Tool] | None = None
    tool_choice: Annotated[AnyToolChoice | NamedToolChoice, Field(discriminator="type")] | None = None
    thinking: Annotated[BudgetedThinking | Thinking, Field(discriminator="type")] | None = None
    output_config: OutputConfig | None = None


class MessagesRequest(CountRequest):
    """`POST /v1/messages`."""

    max_tokens: Annotated[int, Field(ge=1)]
    stop_sequences: list[Annotated[str, Field(min_length=1)]] | None = None
    stream: bool | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_k: Annotated[int, Field(ge=0)] | None = None
    top_p: Probability | None = None
    metadata: Metadata | None = None
    context_management: dict[str, Any] | None = None
