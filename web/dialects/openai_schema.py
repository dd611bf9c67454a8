"""OpenAI's request bodies as types: what is checked before an engine is woken.

Nulls are taken for every optional field and unknown fields for all objects; types are strict (`"temperature": "1"` is
an error), bounds are those of OpenAI's API reference.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Item = TypeVar("Item")
Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
Probability = Annotated[float, Field(ge=0, le=1)]
Several = Annotated[list[Item], Field(min_length=1)]
TokenId = Annotated[str, Field(pattern=r"^[0-9]{1,9}$")]
Token = Annotated[int, Field(ge=0, le=2**31 - 1)]
Stop = str | Annotated[list[str], Field(max_length=4)]

RENDERING = frozenset({
    "add_generation_prompt", "chat_template", "continue_final_message", "conversation", "max_length", "messages",
    "padding", "return_assistant_tokens_mask", "return_dict", "return_tensors", "tokenize", "tokenizer_kwargs", "tools",
    "truncation",
})  # fmt: skip
"""Not variables of a template, but parameters of what renders it (transformers' `apply_chat_template`, to which SGLang
hands on all that it is given): with a template of their own, callers would run a program in the engine."""


def _variable(name: str) -> str:
    if name in RENDERING:
        raise ValueError("Only variables of the model's chat template can be set")
    return name


TemplateVariables = dict[Annotated[str, AfterValidator(_variable)], Any]


class Open(BaseModel):
    """An object that may hold fields which nobody here knows."""

    model_config = ConfigDict(extra="allow", strict=True, defer_build=True)


class TextPart(Open):
    type: Literal["text"]
    text: str


ImageAddress = Annotated[str, Field(pattern=r"^(data:image/|https?://)")]
"""Never a path: an engine would read it on its own machine."""


class ImageUrl(Open):
    url: ImageAddress


class ImagePart(Open):
    type: Literal["image_url"]
    image_url: ImageUrl


class RefusalPart(Open):
    type: Literal["refusal"]
    refusal: str


Part = Annotated[TextPart | ImagePart | RefusalPart, Field(discriminator="type")]
Content = str | list[Part]


class CalledFunction(Open):
    name: str
    arguments: str


class ToolCall(Open):
    id: str
    type: Literal["function"] = "function"
    function: CalledFunction


class InputMessage(Open):
    """A system, developer or user message."""

    role: Literal["system", "developer", "user"]
    content: Content


class AssistantMessage(Open):
    role: Literal["assistant"]
    content: Content | None = None
    tool_calls: list[ToolCall] | None = None


class ToolMessage(Open):
    role: Literal["tool"]
    content: Content
    tool_call_id: str


Message = Annotated[InputMessage | AssistantMessage | ToolMessage, Field(discriminator="role")]


class FunctionDefinition(Open):
    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Open):
    type: Literal["function"]
    function: FunctionDefinition


class FunctionName(Open):
    name: str


class NamedToolChoice(Open):
    type: Literal["function"]
    function: FunctionName


class AllowedTools(Open):
    mode: Literal["auto", "required"]
    tools: Several[NamedToolChoice]


class AllowedToolChoice(Open):
    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


ToolChoice = Annotated[NamedToolChoice | AllowedToolChoice, Field(discriminator="type")]


class JsonSchema(Open):
    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    strict: bool | None = None


class PlainFormat(Open):
    type: Literal["text", "json_object"]


class SchemaFormat(Open):
    type: Literal["json_schema"]
    json_schema: JsonSchema


ResponseFormat = Annotated[PlainFormat | SchemaFormat, Field(discriminator="type")]


class StreamOptions(Open):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class Sampling(Open):
    """What chat completions and completions share."""

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Count | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Probability | None = None
    top_k: Annotated[int, Field(ge=-1, le=2**31 - 1)] | None = None
    min_p: Probability | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repetition_penalty: Annotated[float, Field(gt=0)] | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: Stop | None = None
    logit_bias: dict[TokenId, Annotated[float, Field(ge=-100, le=100)]] | None = None
    prompt_cache_key: str | None = None


class ChatRequest(Sampling):
    """`POST /v1/chat/completions`."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None
    modalities: list[str] | None = None
    tools: Annotated[list[Tool], Field(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    chat_template_kwargs: TemplateVariables | None = None


class TextRequest(Sampling):
    """`POST /v1/completions`."""

    prompt: str | Several[str] | Several[Token] | Several[Several[Token]]
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
