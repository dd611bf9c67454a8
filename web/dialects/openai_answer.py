"""OpenAI's answers, made of an engine's pieces: as a stream of chunks, or as one object. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from web.dialects.openai import error_body

if TYPE_CHECKING:
    from collections.abc import Iterable

    from web.dialects.pieces import Piece, Usage
    from web.dialects.request import GenerationRequest
    from web.errors import WireError

Json = dict[str, Any]

DONE = b"data: [DONE]\n\n"


def usage_object(usage: Usage | None) -> Json:
    """OpenAI's `usage`; `cached_tokens` is always there. An engine that told nothing counts as zeros."""
    prompt, completion, cached, reasoning = usage or (0, 0, 0, None)
    told: Json = {
        "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
    }  # fmt: skip
    if reasoning is not None:
        told["completion_tokens_details"] = {"reasoning_tokens": reasoning}
    return told


class OpenAIDialect:
    """Chat completions and completions, by the request's kind."""

    def stream(self, request: GenerationRequest, *, rid: str, created: int) -> OpenAIStream:
        return OpenAIStream(request, answer_id=_prefix(request) + rid, created=created)

    def answer(self, request: GenerationRequest, *, rid: str, created: int) -> OpenAIAnswer:
        return OpenAIAnswer(request, answer_id=_prefix(request) + rid, created=created)


def _prefix(request: GenerationRequest) -> str:
    return "chatcmpl-" if request.kind == "chat" else "cmpl-"


class OpenAIStream:
    """The chunks of a streamed answer: for each choice the role (chat), pieces and a finish, then usage if it was
    asked for, then `[DONE]`. The same id, created and model throughout."""

    def __init__(self, request: GenerationRequest, *, answer_id: str, created: int) -> None:
        self._chat = request.kind == "chat"
        self._include_usage = request.include_usage
        kind = "chat.completion.chunk" if self._chat else "text_completion"
        envelope = {"id": answer_id, "object": kind, "created": created, "model": request.model, "choices": []}
        self._open = b"data: " + orjson.dumps(envelope)[:-2]
        self._close = b"]" + (b',"usage":null' if request.include_usage else b"") + b"}\n\n"
        self._text_end = (b"}" if self._chat else b"") + b',"logprobs":null,"finish_reason":null}' + self._close
        text_key = b',"delta":{"content":' if self._chat else b',"text":'
        self._starts = {
            index: self._open + b'{"index":%d' % index + text_key for index in range(max(1, request.choices))
        }
        self._begun: set[int] = set()

    def pieces(self, pieces: Iterable[Piece]) -> bytes:
        """The bytes of these pieces."""
        return b"".join([self._piece(piece) for piece in pieces])

    def around(self, choice: int) -> tuple[bytes, bytes]:
        """What stands before and after the text (as a JSON string) in a piece of nothing but text, but the first."""
        return self._starts[choice], self._text_end

    def end(self, usage: Usage | None) -> bytes:
        """The last bytes of a complete answer."""
        if not self._include_usage:
            return DONE
        return self._open + b'],"usage":' + orjson.dumps(usage_object(usage)) + b"}\n\n" + DONE

    def error(self, error: WireError) -> bytes:
        """The last bytes of an answer that failed: nested, so that SDKs raise it; no `[DONE]`, which would end well."""
        return b"data: " + error_body(error) + b"\n\n"

    def _piece(self, piece: Piece) -> bytes:
        choice, kind, value, logprobs, _ = piece
        if not self._chat:
            return self._text(choice, kind, value, logprobs)
        role = b""
        if choice not in self._begun:
            self._begun.add(choice)
            role = self._chunk(choice, {"role": "assistant", "content": ""})
        if kind == "text":
            if logprobs is None:
                return role + self._starts[choice] + orjson.dumps(value) + self._text_end
            return role + self._chunk(choice, {"content": value}, logprobs=logprobs)
        if kind == "finish":
            return role + self._chunk(choice, {}, finish=value)
        if kind == "tool":
            return role + self._chunk(choice, {"tool_calls": [value]})
        return role + self._chunk(choice, {"reasoning_content": value})

    def _text(self, choice: int, kind: str, value: Any, logprobs: Json | None) -> bytes:
        if kind == "text" and logprobs is None:
            return self._starts[choice] + orjson.dumps(value) + self._text_end
        finish, text = (value, "") if kind == "finish" else (None, value)
        return self._choice({"index": choice, "text": text, "logprobs": logprobs, "finish_reason": finish})

    def _chunk(self, choice: int, delta: Json, *, logprobs: Json | None = None, finish: str | None = None) -> bytes:
        return self._choice({"index": choice, "delta": delta, "logprobs": logprobs, "finish_reason": finish})

    def _choice(self, choice: Json) -> bytes:
        return self._open + orjson.dumps(choice) + self._close


class OpenAIAnswer:
    """The one object that a plain caller gets, collected from the same pieces."""

    def __init__(self, request: GenerationRequest, *, answer_id: str, created: int) -> None:
        self._chat = request.kind == "chat"
        self._envelope = {"id": answer_id, "object": "chat.completion" if self._chat else "text_completion"}
        self._envelope |= {"created": created, "model": request.model}  # type: ignore[dict-item]
        self._choices = [Collected() for _ in range(max(1, request.choices))]

    def add(self, pieces: Iterable[Piece]) -> None:
        for piece in pieces:
            self._choices[piece.choice].add(piece)

    def body(self, usage: Usage | None) -> bytes:
        """The answer, once it is complete."""
        render = Collected.chat if self._chat else Collected.text
        choices = [{"index": index} | render(choice) for index, choice in enumerate(self._choices)]
        return orjson.dumps(self._envelope | {"choices": choices, "usage": usage_object(usage)})


class Collected:
    """One choice so far."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._reasoning: list[str] = []
        self._tools: dict[int, Json] = {}
        self._logprobs: Json | None = None
        self._finish: str | None = None

    def add(self, piece: Piece) -> None:
        if piece.kind == "text":
            self._texts.append(piece.value)
            if piece.logprobs is not None:
                self._add_logprobs(piece.logprobs)
        elif piece.kind == "reasoning":
            self._reasoning.append(piece.value)
        elif piece.kind == "tool":
            self._add_tool(piece.value)
        else:
            self._finish = piece.value

    def chat(self) -> Json:
        calls = [self._tools[index] for index in sorted(self._tools)]
        text = "".join(self._texts)
        message: Json = {"role": "assistant", "content": text or None if calls else text, "refusal": None}
        if self._reasoning:
            message["reasoning_content"] = "".join(self._reasoning)
        if calls:
            message["tool_calls"] = calls
        return {"message": message, "logprobs": self._logprobs, "finish_reason": self._finish}

    def text(self) -> Json:
        return {"text": "".join(self._texts), "logprobs": self._logprobs, "finish_reason": self._finish}

    def _add_logprobs(self, told: Json) -> None:
        if self._logprobs is None:
            self._logprobs = {}
        for name, entries in told.items():
            if isinstance(entries, list):
                self._logprobs.setdefault(name, []).extend(entries)
            else:
                self._logprobs.setdefault(name, entries)

    def _add_tool(self, value: Json) -> None:
        call = self._tools.get(value["index"])
        if call is None:
            function = dict(value["function"])
            self._tools[value["index"]] = {"id": value["id"], "type": "function", "function": function}
        else:
            call["function"]["arguments"] += value["function"]["arguments"]
