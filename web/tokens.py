"""Text to a model's tokens and back, asked of the engine that holds its tokenizer and its chat template."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from web.dialects.engine_tokens import (
    chat_tokens,
    read_prompt,
    read_text,
    read_tokens,
    template_call,
    text_call,
    tokens_call,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from web.dialects.request import GenerationRequest
    from web.passage import Passage
    from web.plain_exchange import PlainExchanges


class Tokens:
    """Every method wakes the model's engine, waits for it as a plain caller does, and raises what
    `PlainExchanges.ask` raises."""

    def __init__(self, exchanges: PlainExchanges, *, passage: Passage | None = None) -> None:
        """`passage`: of the one request that these questions are asked for."""
        self._exchanges = exchanges
        self._ask = functools.partial(exchanges.ask, passage=passage)

    def along(self, passage: Passage) -> Tokens:
        """The same, telling `passage` how it goes."""
        return Tokens(self._exchanges, passage=passage)

    async def count_tokens(self, request: GenerationRequest) -> int:
        """How many tokens the prompt of `request` has for its model: what its answer's usage would call
        `prompt_tokens`. For `chat` that is the messages (and tools) in the model's chat template; for `text` the
        prompt, or all of them. Generates nothing.
        """
        if request.kind == "chat":
            return len(await self.of_messages(request.model, request.fields, affinity=request.affinity))
        prompt = request.fields["prompt"]
        prompts = prompt if isinstance(prompt, list) and not isinstance(prompt[0], int) else [prompt]
        count = 0
        for part in prompts:
            count += len(await self.of_text(request.model, part)) if isinstance(part, str) else len(part)
        return count

    async def of_text(self, model: str, text: str, *, special: bool = True) -> list[int]:
        """The ids of `text`'s tokens. `special`: with what the model wants around a prompt (a beginning-of-sequence
        token, where it has one)."""
        return read_tokens(await self._ask(model, lambda target: text_call(target, text, special=special)))

    async def of_messages(self, model: str, fields: Mapping[str, Any], *, affinity: str | None = None) -> list[int]:
        """The ids of a chat's tokens. `fields`: `messages`, and `tools`, `chat_template_kwargs`, `reasoning_effort`
        where there are any, as in a `GenerationRequest`."""
        call = await self._ask(model, lambda target: template_call(target, fields), affinity=affinity)
        if (prompt := read_prompt(call)) is None:
            return read_tokens(call)
        return read_tokens(await self._ask(model, lambda target: chat_tokens(target, prompt), affinity=affinity))

    async def to_text(self, model: str, tokens: Sequence[int]) -> str:
        """The text of these tokens."""
        return read_text(await self._ask(model, lambda target: tokens_call(target, tokens)))
