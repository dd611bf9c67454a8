"""How engines are asked for tokens, and what they answer. Pure.

SGLang 0.5.23: `/tokenize` takes `prompt` or `messages` (in its chat template) and answers `tokens`; `/detokenize`
answers `text`. llama.cpp: `/tokenize` takes `content`, `/apply-template` makes a `prompt` of messages, `/detokenize`
answers `content`. The scripted engine speaks as SGLang does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from web.dialects.engines import EngineCall
from web.errors import EngineBroken

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from web.engines import EngineTarget

Json = dict[str, Any]

TEMPLATE_FIELDS = ("messages", "tools", "chat_template_kwargs", "reasoning_effort", "continue_final_message")
"""What of a chat request its template sees."""


def text_call(target: EngineTarget, text: str, *, special: bool) -> EngineCall:
    """For the tokens of a text."""
    if target.kind == "llamacpp":
        return _call("/tokenize", {"content": text, "add_special": special, "parse_special": True})
    return _call("/tokenize", {"model": target.model, "prompt": text, "add_special_tokens": special})


def template_call(target: EngineTarget, fields: Mapping[str, Any]) -> EngineCall:
    """For the tokens of a chat, or (llama.cpp) for the prompt that its template makes of it."""
    seen = {name: fields[name] for name in TEMPLATE_FIELDS if name in fields}
    if target.kind == "llamacpp":
        more = {"add_generation_prompt": False} if seen.get("continue_final_message") else {}
        return _call("/apply-template", seen | more)
    return _call("/tokenize", {"model": target.model, **seen})


def chat_tokens(target: EngineTarget, prompt: str) -> EngineCall:
    """For the tokens of what a chat template made, read as the engine reads it for an answer."""
    return text_call(target, prompt, special=True)


def tokens_call(target: EngineTarget, tokens: Sequence[int]) -> EngineCall:
    """For the text of tokens, special ones included."""
    if target.kind == "llamacpp":
        return _call("/detokenize", {"tokens": list(tokens)})
    return _call("/detokenize", {"model": target.model, "tokens": list(tokens), "skip_special_tokens": False})


def read_tokens(answer: Json) -> list[int]:
    """The ids in an engine's answer. Raises EngineBroken."""
    tokens = answer.get("tokens")
    if not isinstance(tokens, list) or not all(isinstance(token, int) for token in tokens):
        raise EngineBroken("The engine answered no tokens.", code="engine_protocol")
    return tokens


def read_prompt(answer: Json) -> str | None:
    """What the chat template made, where the engine leaves the second step to its caller."""
    prompt = answer.get("prompt")
    return prompt if isinstance(prompt, str) else None


def read_text(answer: Json) -> str:
    """The text in an engine's answer. Raises EngineBroken."""
    text = answer.get("text", answer.get("content"))
    if not isinstance(text, str):
        raise EngineBroken("The engine answered no text.", code="engine_protocol")
    return text


def _call(path: str, body: Json) -> EngineCall:
    return EngineCall(path=path, body=orjson.dumps(body), abort=None)
