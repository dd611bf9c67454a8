"""What the scripted engine is told to do, and the bytes it says: pure, no sockets."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, fields, replace
from typing import Any

Json = dict[str, Any]


class ScriptError(ValueError):
    """A script holds a field that is not there, or a value of the wrong type."""


@dataclass(frozen=True, kw_only=True)
class Script:
    """How one request goes. Per request: the body's `x_scripted` object; per engine: the same fields as its default.

    Times are seconds. `*_after` counts tokens already sent: 0 means before the first one; null means never.
    """

    ttft: float = 0.0
    """From the request to its first token (and, as with SGLang, to the response's headers)."""
    gap: float = 0.0
    """Between two tokens."""
    tokens: int = 16
    """How many tokens to say: `t0 t1 t2 …`, unless `text` is given; `max_tokens` cuts it."""
    text: str | None = None
    """What to say instead, a word a token."""
    reasoning: str | None = None
    """Said before it as `reasoning_content`, a word a token (chat only)."""
    tool_calls: list[Json] = field(default_factory=list)
    """`[{"name": str, "arguments": str}]`, called after the text (chat only), unless the last message is a tool's
    result."""
    cached_tokens: int = 0
    prompt_tokens: int | None = None
    """Reported in usage; null: the number of words of the prompt."""
    error_status: int = 500
    error_after: int | None = None
    """Fail: with 0 as an HTTP answer of `error_status`, later as an event of the stream."""
    error_body: Json | None = None
    """The error, verbatim; null: SGLang's flat body with a message that says it was scripted."""
    crash_after: int | None = None
    """The engine's process exits at once."""
    hang_after: int | None = None
    """Nothing more is sent and the connection stays open, until the caller leaves or aborts."""
    cut_after: int | None = None
    """The connection is closed with no finish_reason and no `[DONE]`; with 0 before any answer."""

    def with_changes(self, changes: object) -> Script:
        """This script with the fields of a JSON object put in. Raises ScriptError naming the field at fault."""
        if changes is None:
            return self
        if not isinstance(changes, dict):
            raise ScriptError(f"a script is a JSON object, not {type(changes).__name__}")
        known = {item.name: str(item.type) for item in fields(self)}
        for name, value in changes.items():
            if name not in known:
                raise ScriptError(f"x_scripted.{name}: no such field; there are {', '.join(known)}")
            if not _fits(value, known[name]):
                raise ScriptError(f"x_scripted.{name}: expected {known[name]}, got {json.dumps(value)}")
        return replace(self, **changes)

    def pieces(self, *, limit: int | None) -> tuple[list[str], bool]:
        """The tokens of the answer, and whether `limit` (max_tokens) cut them."""
        wanted = [f"t{index} " for index in range(self.tokens)] if self.text is None else _words(self.text)
        if limit is not None and limit < len(wanted):
            return wanted[:limit], True
        return wanted, False

    def thoughts(self) -> list[str]:
        return _words(self.reasoning or "")

    def error(self) -> Json:
        """The error's body: SGLang's flat one unless the script gives it."""
        if self.error_body is not None:
            return self.error_body
        return flat_error(status=self.error_status, message="scripted error")


def _words(text: str) -> list[str]:
    return re.findall(r"[^ ]* |[^ ]+", text)


def _fits(value: object, declared: str) -> bool:
    if value is None:
        return declared.endswith("| None")
    kinds: dict[str, tuple[type, ...]] = {
        "float": (int, float), "int": (int,), "str": (str,), "list[Json]": (list,), "Json": (dict,),
    }  # fmt: skip
    if isinstance(value, bool):
        return False
    if isinstance(value, (int, float)) and value < 0:
        return False
    return isinstance(value, kinds[declared.removesuffix(" | None")])


def flat_error(*, status: int, message: str) -> Json:
    """An error as SGLang 0.5 answers it: flat, not nested under `error`."""
    kinds = {400: "BadRequestError", 404: "NotFoundError", 503: "ServiceUnavailableError"}
    kind = kinds.get(status, "InternalServerError")
    return {"object": "error", "message": message, "type": kind, "param": None, "code": status}


HOLE = "@@piece@@"


@dataclass(frozen=True, kw_only=True)
class Chunks:
    """Renders one answer's stream in SGLang's own words: null fields in every delta, `matched_stop`, `usage: null`."""

    rid: str
    model: str
    created: int
    chat: bool
    _templates: dict[int, list[bytes]] = field(default_factory=dict)

    def token(self, index: int, piece: str, *, logprobs: Json | None = None) -> bytes:
        """One token of choice `index`. From a template: a load generator's engine must cost next to nothing."""
        if logprobs is not None:
            return self._token(index, piece, logprobs)
        if index not in self._templates:
            self._templates[index] = self._token(index, HOLE, None).split(f'"{HOLE}"'.encode())
        return json.dumps(piece).encode().join(self._templates[index])

    def _token(self, index: int, piece: str, logprobs: Json | None) -> bytes:
        if self.chat:
            return self._event(index, {"content": piece}, logprobs=logprobs)
        return self._text(index, piece, None, logprobs)

    def role(self, index: int) -> bytes:
        return self._event(index, {"role": "assistant", "content": ""}) if self.chat else b""

    def thought(self, index: int, piece: str) -> bytes:
        return self._event(index, {"reasoning_content": piece})

    def tool_call(self, index: int, position: int, call: Json) -> bytes:
        """A call's first chunk with its name, and its arguments in two further pieces."""
        name, arguments = str(call.get("name", "")), str(call.get("arguments", ""))
        middle = len(arguments) // 2
        first = {"id": f"call_{self.rid}_{position}", "index": position, "type": "function"}
        opening = [first | {"function": {"name": name, "arguments": ""}}]
        rest = [
            [{"id": None, "index": position, "type": "function", "function": {"name": None, "arguments": part}}]
            for part in (arguments[:middle], arguments[middle:])
        ]
        return b"".join(self._event(index, {"tool_calls": calls}) for calls in (opening, *rest))

    def finish(self, index: int, reason: str) -> bytes:
        return self._event(index, {}, finish=reason) if self.chat else self._text(index, "", reason, None)

    def usage(self, usage: Json) -> bytes:
        return _sse(self._envelope([]) | {"usage": usage})

    def error(self, body: Json) -> bytes:
        return _sse(body)

    def _event(self, index: int, delta: Json, *, finish: str | None = None, logprobs: Json | None = None) -> bytes:
        full = {"role": None, "content": None, "reasoning_content": None, "tool_calls": None} | delta
        choice = {"index": index, "delta": full, "logprobs": logprobs, "finish_reason": finish, "matched_stop": None}
        return _sse(self._envelope([choice]) | {"usage": None})

    def _text(self, index: int, text: str, finish: str | None, logprobs: Json | None) -> bytes:
        choice = {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish, "matched_stop": None}
        return _sse(self._envelope([choice]) | {"usage": None})

    def _envelope(self, choices: list[Json]) -> Json:
        kind = "chat.completion.chunk" if self.chat else "text_completion"
        return {"id": self.rid, "object": kind, "created": self.created, "model": self.model, "choices": choices}


def _sse(body: Json) -> bytes:
    return b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"


def logprobs_of(piece: str, *, chat: bool, top: int) -> Json:
    """Made-up, deterministic log probabilities in OpenAI's shapes."""
    entry: Json = {"token": piece, "logprob": -0.25, "bytes": list(piece.encode())}
    if chat:
        return {"content": [entry | {"top_logprobs": [entry] * top}]}
    return {"tokens": [piece], "token_logprobs": [-0.25], "top_logprobs": [{piece: -0.25}], "text_offset": [0]}


def prompt_words(body: Json) -> list[str]:
    """The scripted tokenizer: a word is a token; ids are one each."""
    if "prompt" in body:
        return _words_of(body["prompt"])
    messages = (message for message in body.get("messages", []) if isinstance(message, dict))
    return [word for message in messages for word in _words_of(message.get("content"))]


def _words_of(value: object) -> list[str]:
    if isinstance(value, str):
        return value.split()
    if isinstance(value, list):
        return [word for item in value for word in _words_of(item)]
    if isinstance(value, dict):
        return _words_of(value.get("text"))
    return [str(value)] if isinstance(value, int) else []
