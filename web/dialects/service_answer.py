"""The service's own answers over HTTP: a stream of events whose `data:` is the text, or one object. Pure.

An SSE parser that keeps to the standard gives back the text exactly, but for one thing that the format cannot carry: a
carriage return ends a line there. CR LF and a lone CR are sent as the line feed that a parser would make of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from web.dialects.openai import error_body

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from web.dialects.pieces import Piece, Usage
    from web.dialects.request import GenerationRequest
    from web.errors import WireError

Json = dict[str, Any]

DONE = b"event: done\ndata:\n\n"
"""The end of a complete answer. Its data is empty, so that whoever reads nothing but `data:` is not misled."""


class Elapsed:
    """How long a request takes. Made when it comes."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._began = monotonic()

    def summary(self, usage: Usage | None) -> Json:
        """`tokens`: of the answer. `duration_seconds`: since the request came, waiting for an engine included."""
        seconds = max(self._monotonic() - self._began, 0.0)
        tokens = usage.completion if usage else 0
        rate = tokens / seconds if seconds else 0.0
        return {"tokens": tokens, "duration_seconds": round(seconds, 6), "tokens_per_second": round(rate, 3)}


def told_end(finish: str | None, usage: Usage | None, elapsed: Elapsed) -> Json:
    """What is known of a complete answer, for those who asked to be told."""
    prompt, cached = (usage.prompt, usage.cached) if usage else (0, 0)
    return {"finish_reason": finish, "prompt_tokens": prompt, "cached_tokens": cached, **elapsed.summary(usage)}


class ServiceDialect:
    """Made for one request: it measures how long that takes."""

    def __init__(self, elapsed: Elapsed, *, events: bool = False) -> None:
        """`events`: whether the stream's end tells what is known of the answer."""
        self._elapsed = elapsed
        self._events = events

    def stream(self, request: GenerationRequest, *, rid: str, created: int) -> ServiceStream:  # noqa: ARG002
        return ServiceStream(self._elapsed, events=self._events)

    def answer(self, request: GenerationRequest, *, rid: str, created: int) -> ServiceAnswer:  # noqa: ARG002
        return ServiceAnswer(request.model, self._elapsed)


class ServiceStream:
    """One event for each piece of text; what a model thinks before it answers is not told."""

    def __init__(self, elapsed: Elapsed, *, events: bool) -> None:
        self._elapsed = elapsed
        self._events = events
        self._after_cr = False
        self._finish: str | None = None

    def pieces(self, pieces: Iterable[Piece]) -> bytes:
        told = b""
        for piece in pieces:
            if piece.kind == "text":
                told += self._event(piece.value)
            elif piece.kind == "finish":
                self._finish = piece.value
        return told

    def around(self, choice: int) -> None:  # noqa: ARG002
        """Text is not sent as JSON here: every piece is looked at."""
        return

    def end(self, usage: Usage | None) -> bytes:
        if not self._events:
            return DONE
        return b"event: done\ndata: " + orjson.dumps(told_end(self._finish, usage, self._elapsed)) + b"\n\n"

    def error(self, error: WireError) -> bytes:
        return b"event: error\ndata: " + error_body(error) + b"\n\n"

    def _event(self, text: str) -> bytes:
        if "\r" in text or self._after_cr:
            text = self._without_cr(text)
        if not text:
            return b""
        return b"data: " + text.replace("\n", "\ndata: ").encode() + b"\n\n"

    def _without_cr(self, text: str) -> str:
        """A CR is told at once, as LF; an LF that comes right behind it is the same line's end."""
        if self._after_cr and text.startswith("\n"):
            text = text[1:]
            self._after_cr = False
        if text:
            self._after_cr = text.endswith("\r")
        return text.replace("\r\n", "\n").replace("\r", "\n")


class ServiceAnswer:
    """`{"text", "model", "tokens", "duration_seconds", "tokens_per_second"}`."""

    def __init__(self, model: str, elapsed: Elapsed) -> None:
        self._model = model
        self._elapsed = elapsed
        self._texts: list[str] = []

    def add(self, pieces: Iterable[Piece]) -> None:
        self._texts += [piece.value for piece in pieces if piece.kind == "text"]

    def body(self, usage: Usage | None) -> bytes:
        return orjson.dumps({"text": "".join(self._texts), "model": self._model, **self._elapsed.summary(usage)})
