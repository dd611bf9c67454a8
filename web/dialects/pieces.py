"""An engine's stream, understood: from the payloads of its events to pieces of an answer, whichever engine it is."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import orjson

from web.errors import EngineBroken, EngineRefused

if TYPE_CHECKING:
    from web.dialects.request import Kind

Json = dict[str, Any]

FINISH_REASONS = frozenset({"stop", "length", "tool_calls", "content_filter"})
LONGEST_MESSAGE = 1000
TOO_LONG = re.compile(r"request \((\d+) tokens\) exceeds the available context size \((\d+) tokens\)")
"""llama.cpp's words."""


class Piece(NamedTuple):
    """A piece of one choice. `value` is the text of `text` and `reasoning`, the reason of `finish`, and of `tool`
    `{"index", "id", "type", "function": {"name", "arguments": ""}}` first, then `{"index", "function": {"arguments"}}`.
    `matched_stop`, of a `finish`: the stop string that ended the text, where the engine tells it (SGLang does).
    """

    choice: int
    kind: Literal["text", "reasoning", "tool", "finish"]
    value: Any
    logprobs: Json | None
    matched_stop: str | None = None


class Usage(NamedTuple):
    """Tokens. `cached`: of the prompt, found in the prefix cache. `reasoning`: of the completion; None: not told."""

    prompt: int
    completion: int
    cached: int
    reasoning: int | None


class EngineStream:
    """What has been heard of one engine's answer. `done` once its `[DONE]` has come."""

    def __init__(self, *, kind: Kind, choices: int, prompt: str | None = None) -> None:
        """`prompt`: what the caller calls the field that holds it, for errors."""
        self._chat = kind == "chat"
        self._choices = choices
        self._prompt = prompt
        self._finished: set[int] = set()
        self._tools: set[tuple[int, int]] = set()
        self.usage: Usage | None = None
        self.done = False

    def read(self, payload: bytes) -> list[Piece]:
        """The pieces of one event. Raises EngineBroken and EngineRefused for an error event or nonsense."""
        if payload == b"[DONE]":
            self._end()
            return []
        try:
            event = orjson.loads(payload)
            choices = event.get("choices")
            if usage := event.get("usage"):
                self._add_usage(_usage(usage), apart=not choices)
            if choices is None:
                raise stream_error(event, prompt=self._prompt)
            pieces: list[Piece] = []
            for choice in choices:
                self._read_choice(choice, pieces)
        except (orjson.JSONDecodeError, AttributeError, TypeError):
            raise EngineBroken("The engine sent an event that is not one.", code="engine_protocol") from None
        return pieces

    def _add_usage(self, usage: Usage, *, apart: bool) -> None:
        """llama.cpp tells the usage of each choice in an event of its own; choices of one chat share their prompt."""
        before = self.usage
        if before is not None and apart and self._choices > 1:
            prompt = max(before.prompt, usage.prompt) if self._chat else before.prompt + usage.prompt
            cached = max(before.cached, usage.cached) if self._chat else before.cached + usage.cached
            usage = usage._replace(prompt=prompt, cached=cached, completion=before.completion + usage.completion)
        self.usage = usage

    def _end(self) -> None:
        if len(self._finished) < self._choices:
            raise EngineBroken("The engine ended its stream without finishing the answer.", code="engine_died")
        self.done = True

    def _read_choice(self, choice: Json, pieces: list[Piece]) -> None:
        index = choice.get("index", 0)
        if not 0 <= index < self._choices:
            raise EngineBroken("The engine sent a choice that was not asked for.", code="engine_protocol")
        logprobs = choice.get("logprobs")
        if self._chat:
            delta = choice.get("delta") or {}
            if reasoning := delta.get("reasoning_content"):
                pieces.append(Piece(index, "reasoning", reasoning, None))
            text = delta.get("content")
            if calls := delta.get("tool_calls"):
                for position, call in enumerate(calls):
                    self._read_tool(index, position, call, pieces)
        else:
            text = choice.get("text")
        if text or logprobs:
            pieces.append(Piece(index, "text", text or "", logprobs))
        if reason := choice.get("finish_reason"):
            if reason not in FINISH_REASONS:
                raise EngineBroken(f"The engine ended the answer early ({reason}).", code="engine_aborted")
            self._finished.add(index)
            stop = choice.get("matched_stop")
            pieces.append(Piece(index, "finish", reason, None, stop if isinstance(stop, str) else None))

    def _read_tool(self, choice: int, position: int, call: Json, pieces: list[Piece]) -> None:
        index = call.get("index")
        if not isinstance(index, int):
            index = position
        function = call.get("function") or {}
        arguments = function.get("arguments") or ""
        if (choice, index) not in self._tools:
            self._tools.add((choice, index))
            name = function.get("name") or ""
            opening = {"name": name, "arguments": ""}
            first = {"index": index, "id": call.get("id") or f"call_{choice}_{index}", "type": "function"}
            pieces.append(Piece(choice, "tool", first | {"function": opening}, None))
        if arguments:
            pieces.append(Piece(choice, "tool", {"index": index, "function": {"arguments": arguments}}, None))


def stream_error(event: Json, *, prompt: str | None = None) -> EngineBroken | EngineRefused:
    """The error in an event that holds no choices: nested, flat, or not recognisable."""
    message, status = engine_message(event)
    if message is None:
        return EngineBroken("The engine sent an event that is no part of an answer.", code="engine_protocol")
    if status is not None and 400 <= status < 500:
        return refusal(message, prompt=prompt)
    return EngineBroken(message, code="engine_error")


def engine_message(body: object) -> tuple[str | None, int | None]:
    """What an engine's error body says, and the status that it names, if any: nested under `error` (llama.cpp, and
    SGLang in streams), flat (SGLang), a string, or FastAPI's `detail`. `(None, None)`: not an error body."""
    if not isinstance(body, dict):
        return None, None
    inner = body.get("error", body)
    if isinstance(inner, str):
        return inner[:LONGEST_MESSAGE], None
    if not isinstance(inner, dict):
        return None, None
    message = inner.get("message", inner.get("detail"))
    if not isinstance(message, str):
        return None, None
    code = inner.get("code")
    told = int(code) if isinstance(code, int) or (isinstance(code, str) and code.isdigit()) else None
    return message.partition("\n")[0][:LONGEST_MESSAGE], told


def refusal(message: str, *, prompt: str | None = None) -> EngineRefused:
    """What an engine refused, in words for who asked; `prompt`: what the caller calls the field that holds it."""
    code, param = _refusal_code(message), _refusal_param(message)
    if code is not None:
        param = prompt
        if sizes := TOO_LONG.search(message):
            message = f"The prompt has {sizes[1]} tokens, and this model's context holds {sizes[2]}."
        message = message.replace(", try increasing it", "")  # the operator might, the caller cannot
    return EngineRefused(message, code=code, param=param)


def _refusal_code(message: str) -> str | None:
    """OpenAI's code for what an engine refused, as far as its words tell."""
    words = message.lower()
    if "context" in words and any(hint in words for hint in ("exceed", "longer than", "too long", "maximum")):
        return "context_length_exceeded"
    return None


def _refusal_param(message: str) -> str | None:
    """The field that an engine refused, as far as its words tell."""
    words = message.lower()
    if any(hint in words for hint in ("json schema", "grammar", "invalid pattern")):
        return "tools" if "arguments_" in words else "response_format"
    return "n" if words.startswith("field 'n'") else None


def _usage(told: Json) -> Usage:
    details = told.get("prompt_tokens_details") or {}
    more = told.get("completion_tokens_details") or {}
    return Usage(
        prompt=told.get("prompt_tokens") or 0,
        completion=told.get("completion_tokens") or 0,
        cached=details.get("cached_tokens") or 0,
        reasoning=more.get("reasoning_tokens", told.get("reasoning_tokens")),
    )
