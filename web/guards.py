"""What a request must be before it may cost anything: short enough, of bounded answer, and without blocked words. Pure.

A `PromptGuard` takes a request and gives it back, or another one, or raises what its caller is told. What answers must
not hold is in `web.answer_guard`.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from web.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from infra.settings import Settings
    from web.dialects.request import GenerationRequest

BYTES_PER_TOKEN = 3
"""Of a prompt whose tokens nobody has counted yet, as UTF-8: English has about 4, Chinese 3, code 3."""
TEMPLATE_TOKENS = 64
"""What a chat template may add to a prompt."""


class PromptGuard(Protocol):
    def check(self, request: GenerationRequest) -> GenerationRequest:
        """The request as it may go on. Raises InvalidRequest."""


class ConfiguredPromptGuard:
    """What the sections `limits` and `guards` of the settings ask for."""

    def __init__(self, settings: Settings) -> None:
        self._models = settings.models
        self._longest = settings.limits.max_prompt_length
        self._most_tokens = settings.limits.max_response_tokens
        self._blocked = [re.compile(expression) for expression in settings.guards.blocked_prompts]

    def check(self, request: GenerationRequest) -> GenerationRequest:
        """See `PromptGuard.check`. The request that is given back has `max_tokens`, at most as many as are allowed."""
        param = request.prompt_name
        texts = prompt_of(request, remembered=False)
        length = sum(map(len, texts))
        if length > self._longest:
            raise too_long(param, length=length, longest=self._longest)
        if self._blocked:
            self._refuse_blocked(param, texts)
        return self._clamped(request)

    def _refuse_blocked(self, param: str, texts: Sequence[str | list[int]]) -> None:
        for text in texts:
            if isinstance(text, list):
                raise InvalidRequest(
                    "The prompt must be text here, not tokens: what it says is checked.",
                    param=param, code="unsupported_value",
                )  # fmt: skip
            if any(expression.search(text) for expression in self._blocked):
                raise InvalidRequest(
                    "The prompt holds what this service does not answer.", param=param, code="content_policy_violation"
                )

    def _clamped(self, request: GenerationRequest) -> GenerationRequest:
        asked = request.fields.get("max_tokens")
        most = self._most_tokens
        if asked is None:
            model = self._models.find(request.model)
            if model is not None:
                most = answer_room(prompt_tokens(request), context=model.context_length, most=most)
        elif asked <= most:
            return request
        return replace(request, fields={**request.fields, "max_tokens": most})


def answer_room(prompt: int, *, context: int, most: int) -> int:
    """How many tokens an answer to a prompt of about `prompt` tokens may have, at most `most`, so that both fit into
    `context`: an engine may refuse what does not. An eighth of the context is asked for in any case."""
    return max(1, min(most, max(context - prompt - TEMPLATE_TOKENS, context // 8)))


def prompt_tokens(request: GenerationRequest) -> int:
    """About how many tokens a prompt has; of several prompts the longest, since each has a context of its own."""
    counts = [tokens_of(text) for text in prompt_of(request)]
    return sum(counts) if request.kind == "chat" else max(counts, default=0)


def all_prompts_tokens(request: GenerationRequest) -> int:
    """About how many tokens all the prompts of a request have together."""
    return sum(map(tokens_of, prompt_of(request)))


def tokens_at_most(request: GenerationRequest) -> int:
    """About how many tokens a guarded request may cost: of its prompts, and of as many answers as it asks for."""
    return all_prompts_tokens(request) + int(request.fields.get("max_tokens") or 0) * request.choices


def tokens_of(text: str | list[int]) -> int:
    """About how many tokens a text has; how many they are, of token ids."""
    if isinstance(text, list):
        return len(text)
    return -(-(len(text) if text.isascii() else len(text.encode(errors="replace"))) // BYTES_PER_TOKEN)


def too_long(param: str, *, length: int, longest: int) -> InvalidRequest:
    return InvalidRequest(
        f"Invalid '{param}': text too long. Expected at most {longest} characters in all, but got {length}.",
        param=param, code="string_above_max_length",
    )  # fmt: skip


def prompt_of(request: GenerationRequest, *, remembered: bool = True) -> list[str | list[int]]:
    """All the text in a prompt (token ids as they are): of messages also what assistants thought and called tools with.
    `remembered`: with what the service itself remembered."""
    if request.kind == "chat":
        messages = request.fields["messages"]
        chosen = messages
        if not remembered and request.remembered:
            chosen = [*messages[: request.introduced], *messages[request.introduced + request.remembered :]]
        texts: list[str | list[int]] = []
        for message in chosen:
            if type(content := message.get("content")) is str and len(message) == 2:
                texts.append(content)  # as nearly all are
            else:
                texts += _texts(message)
        return texts
    prompt = request.fields["prompt"]
    if isinstance(prompt, str):
        return [prompt]
    return [prompt] if isinstance(prompt[0], int) else list(prompt)


def _texts(message: Any) -> Iterator[str]:
    content = message.get("content")
    if isinstance(content, str):
        yield content
    elif content:
        for part in content:
            for kind in ("text", "refusal"):
                if isinstance(said := part.get(kind), str):
                    yield said
    if isinstance(thought := message.get("reasoning_content"), str):
        yield thought
    for call in message.get("tool_calls") or ():
        yield call["function"]["arguments"]
