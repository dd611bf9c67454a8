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
    """Made for one request. `repeated`: what of the request the answer repeats. `now`: Unix seconds, for when an answer
    is complete."""

    def __init__(self, repeated: Mapping[str, Any], *, now: Callable[[], float]) -> None:
        self._repeated = repeated
        self._now = now
        self._envelope: _Envelope | None = None
        self._stream: ResponsesStream | None = None

    @property
    def ended(self) -> Json | None:
        """The response as its caller is told it at its end, once there is one."""
        return None if self._envelope is None else self._envelope.last

    def left(self) -> Json | None:
        """The response as far as it came, when its caller has left or was let go of, whoever was told that. None where
        nothing came of it."""
        return self.ended or (None if self._stream is None else self._stream.left())

    def stream(self, request: GenerationRequest, *, rid: str, created: int) -> ResponsesStream:
        self._stream = ResponsesStream(self._begin(request, rid, created), rid=rid)
        return self._stream

    def answer(self, request: GenerationRequest, *, rid: str, created: int) -> ResponsesAnswer:
        return ResponsesAnswer(self._begin(request, rid, created), rid=rid)

    def _begin(self, request: GenerationRequest, rid: str, created: int) -> _Envelope:
        self._envelope = _Envelope(request, self._repeated, rid=rid, created=created, now=self._now)
        return self._envelope


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
        self.last: Json | None = None
        """How it has ended."""

    def begun(self) -> Json:
        return self._known | {"status": "in_progress", "output": []}

    def ended(self, output: list[Json], usage: Usage | None, *, finish: str | None) -> Json:
        told = self._known | {"output": output, "usage": usage_object(usage)}
        if (reason := REASONS.get(finish or "")) is not None:
            self.last = told | {"status": "incomplete", "incomplete_details": {"reason": reason}}
        else:
            self.last = told | {"status": "completed", "completed_at": int(self._now())}
        return self.last

    def failed(self, output: list[Json], error: WireError) -> Json:
        """`code` is one of the few that SDKs know; what it was in this service's own words is the `type`."""
        code = "rate_limit_exceeded" if error.status == 429 else "server_error"
        if 400 <= error.status < 429:
            code = "invalid_prompt"
        told = {"code": code, "message": error.message, "type": error.code or error.type, "param": error.param}
        self.last = self._known | {"status": "failed", "output": output, "error": told}
        return self.last

    def cancelled(self, output: list[Json]) -> Json:
        return self._known | {"status": "cancelled", "output": output}


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

    def left(self) -> Json | None:
        """The response as far as it came; None if nothing did."""
        return self._envelope.cancelled(self._items.so_far()) if self._begun else None

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
