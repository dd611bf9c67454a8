"""Anthropic's answers, made of an engine's pieces: as a stream of events, or as one object. Pure.

An answer is a list of content blocks: a block is open until a piece of another kind comes.
"""

from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING, Any

import orjson
from pydantic_core import from_json

from web.dialects.anthropic import error_body
from web.errors import EngineBroken

if TYPE_CHECKING:
    from collections.abc import Iterable

    from web.dialects.pieces import Piece, Usage
    from web.dialects.request import GenerationRequest
    from web.errors import WireError

Json = dict[str, Any]

STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}

OPENINGS: dict[str, Json] = {
    "text": {"type": "text", "text": ""},
    "reasoning": {"type": "thinking", "thinking": "", "signature": ""},
}
DELTAS = {
    "text": b'{"type":"text_delta","text":',
    "reasoning": b'{"type":"thinking_delta","thinking":',
    "tool": b'{"type":"input_json_delta","partial_json":',
}
END = b"}}\n\n"


def signature_of(thinking: str) -> str:
    """A checksum. Nobody checks it here, where thoughts are what their callers say they are; but clients take what is
    not signed for somebody else's thoughts, and send it back as something else or not at all."""
    return base64.b64encode(hashlib.sha256(thinking.encode()).digest()).decode()


def usage_object(usage: Usage | None) -> Json:
    """Anthropic's `usage`: what was found in the prefix cache is no part of `input_tokens`. An engine that told nothing
    counts as zeros."""
    prompt, completion, cached, reasoning = usage or (0, 0, 0, None)
    told: Json = {
        "input_tokens": max(0, prompt - cached), "cache_creation_input_tokens": 0, "cache_read_input_tokens": cached,
        "output_tokens": completion,
    }  # fmt: skip
    return told if reasoning is None else told | {"output_tokens_details": {"thinking_tokens": reasoning}}


class AnthropicDialect:
    """Messages. `hide_thinking`: thoughts are left out, their blocks are not. `edits`: edits of the context were asked
    for, of which none is ever applied. `request_id`: told in errors."""

    def __init__(self, *, hide_thinking: bool = False, edits: bool = False, request_id: str | None = None) -> None:
        self._hide_thinking = hide_thinking
        self._edited: Json = {"context_management": {"applied_edits": []}} if edits else {}
        self._request_id = request_id

    def stream(self, request: GenerationRequest, *, rid: str, created: int) -> AnthropicStream:  # noqa: ARG002
        envelope = _envelope(request, rid)
        return AnthropicStream(
            envelope, hide_thinking=self._hide_thinking, edited=self._edited, request_id=self._request_id
        )

    def answer(self, request: GenerationRequest, *, rid: str, created: int) -> AnthropicAnswer:  # noqa: ARG002
        return AnthropicAnswer(_envelope(request, rid) | self._edited, hide_thinking=self._hide_thinking)


def _envelope(request: GenerationRequest, rid: str) -> Json:
    return {
        "id": "msg_" + rid, "type": "message", "role": "assistant", "model": request.model, "content": [],
        "stop_reason": None, "stop_sequence": None,
    }  # fmt: skip


class _Ending:
    """Why the text ended. Engines call it a stop when a stop string did it: some tell which (SGLang), and where none
    is told (llama.cpp) it is an `end_turn`."""

    def __init__(self) -> None:
        self.called = False
        self._piece: Piece | None = None

    def finish(self, piece: Piece) -> None:
        self._piece = piece

    @property
    def cut(self) -> bool:
        return self._piece is not None and self._piece.value in ("length", "content_filter")

    def told(self) -> Json:
        piece = self._piece
        if piece is None:
            return {"stop_reason": None, "stop_sequence": None}
        if piece.value == "stop" and piece.matched_stop is not None:
            return {"stop_reason": "stop_sequence", "stop_sequence": piece.matched_stop}
        reason = "tool_calls" if piece.value == "stop" and self.called else piece.value
        return {"stop_reason": STOP_REASONS[reason], "stop_sequence": None}


class AnthropicStream:
    """The events of a streamed answer. How long the prompt is, no engine tells before its end: `message_start` says
    0 tokens, `message_delta` the truth, which SDKs put in its place."""

    def __init__(
        self, envelope: Json, *, hide_thinking: bool = False, edited: Json | None = None, request_id: str | None = None
    ) -> None:
        self._edited = edited or {}
        self._start = envelope | {"usage": usage_object(None)}
        self._hide_thinking = hide_thinking
        self._request_id = request_id
        self._ending = _Ending()
        self._begun = False
        self._index = -1
        self._open: str | None = None
        self._thoughts: list[str] = []
        self._tool: int | None = None
        self._before = b""

    def pieces(self, pieces: Iterable[Piece]) -> bytes:
        """The bytes of these pieces."""
        parts: list[bytes] = []
        for piece in pieces:
            if not self._begun:
                self._begun = True
                parts.append(_event("message_start", {"message": self._start}))
            if piece.kind == "finish":
                parts.append(self._close())
                self._ending.finish(piece)
            elif piece.kind == "tool":
                parts.append(self._call(piece.value))
            elif piece.value:
                parts.append(self._say(piece.kind, piece.value))
        return b"".join(parts)

    def around(self, choice: int) -> tuple[bytes, bytes] | None:  # noqa: ARG002 (there is one)
        """What stands around the text of the text block that is open."""
        return (self._before, END) if self._open == "text" else None

    def end(self, usage: Usage | None) -> bytes:
        """The last bytes of a complete answer."""
        told = {"delta": self._ending.told(), "usage": usage_object(usage)}
        last = _event("message_delta", told | self._edited)
        return self._close() + last + _event("message_stop", {})

    def error(self, error: WireError) -> bytes:
        """The last bytes of an answer that failed: SDKs raise it, also where it comes first."""
        return b"event: error\ndata: " + error_body(error, request_id=self._request_id) + b"\n\n"

    def _say(self, kind: str, text: str) -> bytes:
        opening = b"" if self._open == kind else self._start_block(kind, OPENINGS[kind])
        if kind == "reasoning":
            self._thoughts.append(text)
            if self._hide_thinking:
                return opening
        return opening + self._before + orjson.dumps(text) + END

    def _call(self, call: Json) -> bytes:
        if "id" in call:
            self._tool, self._ending.called = call["index"], True
            block = {"type": "tool_use", "id": call["id"], "name": call["function"]["name"], "input": {}}
            return self._start_block("tool", block)
        if self._open != "tool" or call["index"] != self._tool:
            raise EngineBroken("The engine mixed two calls of tools.", code="engine_protocol")
        return self._before + orjson.dumps(call["function"]["arguments"]) + END

    def _start_block(self, kind: str, block: Json) -> bytes:
        closing = self._close()
        self._index += 1
        self._open = kind
        head = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":'
        self._before = head % self._index + DELTAS[kind]
        return closing + _event("content_block_start", {"index": self._index, "content_block": block})

    def _close(self) -> bytes:
        if self._open is None:
            return b""
        signed = b""
        if self._open == "reasoning":
            delta = {"type": "signature_delta", "signature": signature_of("".join(self._thoughts))}
            signed = _event("content_block_delta", {"index": self._index, "delta": delta})
            self._thoughts.clear()
        self._open = None
        return signed + _event("content_block_stop", {"index": self._index})


class AnthropicAnswer:
    """The one object that a plain caller gets, collected from the same pieces."""

    def __init__(self, envelope: Json, *, hide_thinking: bool = False) -> None:
        self._envelope = envelope
        self._hide_thinking = hide_thinking
        self._ending = _Ending()
        self._blocks: list[tuple[str, Json, list[str]]] = []

    def add(self, pieces: Iterable[Piece]) -> None:
        for piece in pieces:
            if piece.kind == "finish":
                self._ending.finish(piece)
            elif piece.kind == "tool":
                self._call(piece.value)
            elif piece.value:
                if not self._blocks or self._blocks[-1][0] != piece.kind:
                    self._blocks.append((piece.kind, OPENINGS[piece.kind], []))
                self._blocks[-1][2].append(piece.value)

    def body(self, usage: Usage | None) -> bytes:
        """The answer, once it is complete. Raises EngineBroken when a tool is called with what is no JSON object."""
        content = [self._block(kind, block, "".join(said)) for kind, block, said in self._blocks]
        return orjson.dumps(
            self._envelope | {"content": content} | self._ending.told() | {"usage": usage_object(usage)}
        )

    def _call(self, call: Json) -> None:
        if "id" in call:
            self._ending.called = True
            block = {"type": "tool_use", "id": call["id"], "name": call["function"]["name"], "index": call["index"]}
            self._blocks.append(("tool", block, []))
            return
        for kind, block, said in reversed(self._blocks):
            if kind == "tool" and block["index"] == call["index"]:
                said.append(call["function"]["arguments"])
                return

    def _block(self, kind: str, block: Json, said: str) -> Json:
        if kind == "text":
            return block | {"text": said}
        if kind == "reasoning":
            return block | {"thinking": "" if self._hide_thinking else said, "signature": signature_of(said)}
        told = {name: value for name, value in block.items() if name != "index"}
        return told | {"input": _input(said, cut=self._ending.cut)}


def _input(arguments: str, *, cut: bool) -> orjson.Fragment:
    """A tool's input, in the model's own words: numbers may be larger than any that JSON libraries know. `cut`: the
    answer ended within it, so as much as there is of it."""
    arguments = arguments or "{}"
    try:
        given = from_json(arguments, allow_partial=cut)
    except ValueError:
        given = None
    if not isinstance(given, dict):
        raise EngineBroken("The model called a tool with what is no JSON object.", code="invalid_tool_arguments")
    return orjson.Fragment(json.dumps(given) if cut else arguments)


def _event(kind: str, data: Json) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + orjson.dumps({"type": kind} | data) + b"\n\n"
