"""Answers of OpenAI's Responses API: as a stream of events, or as one object. Pure, but for the clock it is given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from web.dialects.responses_items import Events, Items

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from web.dialects.pieces import Piece, Usage
    from web.dialects.request import GenerationRequest
    from web.errors import WireError

Json = dict[str, Any]

REASONS = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""By which end of an engine's answer it is incomplete, in the words of Responses."""


def usage_object(usage: Usage | None) -> Json:
    """The `usage` of Responses. An engine that told nothing counts as zeros."""
    prompt, completion, cached, reasoning = usage or (0, 0, 0, None)
    return {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": completion,
        "output_tokens_details": {"reasoning_tokens": reasoning or 0},
        "total_tokens": prompt + completion,
    }


class ResponsesDialect:
    """`repeated`: what of the request the answer repeats. `now`: Unix seconds, for when an answer is complete."""

    def __init__(self, repeated: Mapping[str, Any], *, now: Callable[[], float]) -> None:
        self._repeated = repeated
        self._now = now

    def stream(self, request: GenerationRequest, *, rid: str, created: int) -> ResponsesStream:
        return ResponsesStream(_Envelope(request, self._repeated, rid=rid, created=created, now=self._now), rid=rid)

    def answer(self, request: GenerationRequest, *, rid: str, created: int) -> ResponsesAnswer:
        return ResponsesAnswer(_Envelope(request, self._repeated, rid=rid, created=created, now=self._now), rid=rid)


class _Envelope:
    """The response object in each of its states."""

    def __init__(
        self, request: GenerationRequest, repeated: Mapping[str, Any], *, rid: str, created: int,
        now: Callable[[], float],
    ) -> None:  # fmt: skip
        named = {"id": "resp_" + rid, "object": "response", "created_at": created, "model": request.model}
        unknown = {"completed_at": None, "error": None, "incomplete_details": None, "usage": None}
        self._known: Json = {**named, **repeated, **unknown}
        self._now = now

    def begun(self) -> Json:
        return self._known | {"status": "in_progress", "output": []}

    def ended(self, output: list[Json], usage: Usage | None, *, finish: str | None) -> Json:
        told = self._known | {"output": output, "usage": usage_object(usage)}
        if (reason := REASONS.get(finish or "")) is not None:
            return told | {"status": "incomplete", "incomplete_details": {"reason": reason}}
        return told | {"status": "completed", "completed_at": int(self._now())}

    def failed(self, output: list[Json], error: WireError) -> Json:
        """`code` is one of the few that SDKs know; what it was in this service's own words is the `type`."""
        code = "rate_limit_exceeded" if error.status == 429 else "server_error"
        if 400 <= error.status < 429:
            code = "invalid_prompt"
        told = {"code": code, "message": error.message, "type": error.code or error.type, "param": error.param}
        return self._known | {"status": "failed", "output": output, "error": told}


class ResponsesStream:
    """The events of a streamed response. Nothing comes behind the last one."""

    def __init__(self, envelope: _Envelope, *, rid: str) -> None:
        self._envelope = envelope
        self._events = Events()
        self._items = Items(rid, self._events)
        self._begun = False

    def pieces(self, pieces: Iterable[Piece]) -> bytes:
        """The bytes of these pieces."""
        pieces = list(pieces)
        if pieces:
            self._begin()
            self._items.add(pieces)
        return self._events.take()

    def around(self, choice: int) -> Callable[[bytes], bytes] | None:  # noqa: ARG002 (there is one)
        """What makes the next event of a text: events are numbered."""
        return self._items.around_text()

    def end(self, usage: Usage | None) -> bytes:
        """The last bytes of a complete answer."""
        response = self._envelope.ended(self._items.done, usage, finish=self._items.finish)
        self._events.tell(f"response.{response['status']}", {"response": response})
        return self._events.take()

    def error(self, error: WireError) -> bytes:
        """The last bytes of an answer that failed: its last state, with what there was of the answer."""
        self._begin()
        response = self._envelope.failed(self._items.so_far(), error)
        self._events.tell("response.failed", {"response": response})
        return self._events.take()

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            for state in ("created", "in_progress"):
                self._events.tell(f"response.{state}", {"response": self._envelope.begun()})


class ResponsesAnswer:
    """The one object that a plain caller gets, collected from the same pieces."""

    def __init__(self, envelope: _Envelope, *, rid: str) -> None:
        self._envelope = envelope
        self._items = Items(rid, None)

    def add(self, pieces: Iterable[Piece]) -> None:
        self._items.add(pieces)

    def body(self, usage: Usage | None) -> bytes:
        """The answer, once it is complete."""
        return orjson.dumps(self._envelope.ended(self._items.done, usage, finish=self._items.finish))
