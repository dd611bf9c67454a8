"""What becomes of every field of OpenAI's requests: the one table that parsing uses, tests hold and the docs show.

The fields are those of `openai.types.chat.completion_create_params` and `openai.types.completion_create_params`, and
the few more that engines have in common. A field that stands nowhere here is ignored, as OpenAI ignores it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from web.dialects.request import Kind

Fate = Literal["engine", "service", "ignored", "refused"]
"""`engine`: the engine honours it. `service`: honoured here. `ignored`: accepted, changes nothing, by contract.
`refused`: it would change the answer and is not honoured: a 400 that names it, unless it is null, false or empty."""


@dataclass(frozen=True, kw_only=True)
class RequestField:
    name: str
    kinds: tuple[Kind, ...]
    """The requests that have it: `chat` completions, `text` completions."""
    fate: Fate
    note: str = ""
    """How it is honoured where that is not plain, or why it is not."""
    openai: bool = True
    """Whether OpenAI's API has it."""


BOTH: tuple[Kind, ...] = ("chat", "text")
CHAT: tuple[Kind, ...] = ("chat",)
TEXT: tuple[Kind, ...] = ("text",)


def _fields(
    kinds: tuple[Kind, ...], fate: Fate, notes: Mapping[str, str], *, openai: bool = True
) -> list[RequestField]:
    return [RequestField(name=name, kinds=kinds, fate=fate, note=note, openai=openai) for name, note in notes.items()]


FIELDS: tuple[RequestField, ...] = (
    *_fields(BOTH, "service", {
        "model": "An id or a name.",
        "stream": "",
        "stream_options": "`include_usage`; `include_obfuscation` is ignored: nothing is obfuscated.",
    }),
    *_fields(CHAT, "service", {
        "max_completion_tokens": "Wins over `max_tokens`.",
        "prompt_cache_key": "Requests with the same key meet the same engine container and its prefix cache.",
        "modalities": "`[\"text\"]`, which is what there is.",
        "parallel_tool_calls": "With `false` an answer holds one call at most, whatever the engine says.",
    }),
    *_fields(BOTH, "engine", {
        "max_tokens": "Completions have 16 unless it is set, as at OpenAI.",
        "temperature": "",
        "top_p": "",
        "presence_penalty": "",
        "frequency_penalty": "",
        "n": "llama.cpp: at most `models.max_concurrent_requests`.",
        "seed": "SGLang: only when it is started with `--enable-deterministic-inference` (`sglang.flags`).",
        "stop": "A string, or up to 4.",
        "logit_bias": "Keys are token ids of the model.",
        "logprobs": "Chat: true; completions: how many of the most likely tokens are told, up to 5.",
    }),
    *_fields(CHAT, "engine", {
        "messages": "`developer` is `system`. Images: where the model has `vision = true`.",
        "top_logprobs": "Up to 20; needs `logprobs`.",
        "response_format": "`text`, `json_object`, `json_schema`: enforced by the engine's grammar.",
        "tools": "Functions.",
        "tool_choice": "`required` and a named function are enforced by a grammar, whichever engine serves.",
        "reasoning_effort": "For models whose chat template knows it.",
    }),
    *_fields(TEXT, "engine", {"prompt": "A string, strings, token ids, or lists of them: a choice for each."}),
    *_fields(BOTH, "engine", {
        "top_k": "", "min_p": "", "repetition_penalty": "",
    }, openai=False),
    *_fields(CHAT, "engine", {
        "chat_template_kwargs": "Variables of the model's chat template; not a template.",
    }, openai=False),
    *_fields(TEXT, "service", {"prompt_cache_key": "As for chat."}, openai=False),
    *_fields(BOTH, "ignored", {"user": "Limits are kept by API key."}),
    *_fields(CHAT, "ignored", {
        "metadata": "Nothing is stored.",
        "store": "Answers are not stored.",
        "service_tier": "There is one.",
        "safety_identifier": "Limits are kept by API key.",
        "prompt_cache_options": "Prefixes are cached whenever they can be.",
        "prompt_cache_retention": "Prefixes are cached for as long as there is room.",
        "prediction": "It makes an answer faster at OpenAI, and changes none.",
        "verbosity": "A preference that open models do not have; say it in the prompt.",
    }),
    *_fields(CHAT, "refused", {
        "audio": "The models here speak text.",
        "function_call": "It was replaced by 'tool_choice'.",
        "functions": "It was replaced by 'tools'.",
        "moderation": "Nothing is moderated here.",
        "web_search_options": "There is no web search here.",
    }),
    *_fields(TEXT, "refused", {
        "best_of": "Use 'n'.",
        "echo": "The prompt is not repeated.",
        "suffix": "Insertion is not available.",
    }),
)  # fmt: skip


def names(kind: Kind, fate: Fate) -> tuple[str, ...]:
    """The fields of this kind of request that meet this fate."""
    return tuple(field.name for field in FIELDS if kind in field.kinds and field.fate == fate)


def refusals(kind: Kind) -> dict[str, str]:
    """Refused field -> why."""
    return {field.name: field.note for field in FIELDS if kind in field.kinds and field.fate == "refused"}


def table(kind: Kind) -> str:
    """The fields of this kind of request as a table in Markdown: what the API's documentation shows."""
    spelled = {"engine": "honoured", "service": "honoured", "ignored": "ignored", "refused": "refused"}
    rows = ["| Field | | |", "|---|---|---|"]
    for field in FIELDS:
        if kind in field.kinds:
            mine = "" if field.openai else " (not OpenAI's)"
            rows.append(f"| `{field.name}`{mine} | {spelled[field.fate]} | {field.note} |")
    return "\n".join(rows) + "\n"
