"""One request to the application from within: the line of a batch, asked as its owner would ask it."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from typing import TYPE_CHECKING, NamedTuple, Protocol

from web.access import access_fields
from web.dialects.errors import error_body
from web.errors import ServiceError, to_wire
from web.metrics import LEFT
from web.record import current, recorded_as
from web.tracing import request_attributes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import ASGIApp, Message, Scope

    from web.caller import Caller
    from web.clock import Clock
    from web.tracing import Tracing

log = logging.getLogger(__name__)

BROKEN = 502
"""The status of an answer that was cut."""
WAITED_FOR = frozenset({408, 409, 429, 503})
"""Whoever is told so has asked at the wrong time."""
TRIED_AGAIN = frozenset({500, 502, 504})
MOST_TRIES = 3
"""Of a line that fails in other ways: it may be the line that breaks engines."""
LONGEST_PAUSE = 30.0


class LineAnswer(NamedTuple):
    status: int
    request_id: str
    headers: Mapping[str, str]
    body: bytes


class Asker(Protocol):
    async def __call__(self, path: str, body: bytes, caller: Caller) -> LineAnswer:
        """The answer to a POST. Cancel to free the engine."""


class InProcess:
    """An `Asker` of an ASGI application."""

    def __init__(self, app: ASGIApp, *, clock: Clock, tracing: Tracing | None = None) -> None:
        self._app = app
        self._clock = clock
        self._tracing = tracing

    async def __call__(self, path: str, body: bytes, caller: Caller) -> LineAnswer:
        request_id, status, around = f"req_{secrets.token_hex(16)}", LEFT, current.get()
        with recorded_as(request_id=request_id) as record:
            if self._tracing is not None:
                cause = None if around is None else around.cause
                record.trace = self._tracing.begin({}, self._clock.monotonic(), cause=cause)
            try:
                answer = await self._answer(path, body, caller, request_id)
                status = answer.status
                if log.isEnabledFor(logging.DEBUG):
                    fields = access_fields(record, method="POST", route=path, status=status)
                    log.debug("a line of a batch was answered", extra=fields)
                return answer
            finally:
                if record.trace is not None:
                    told = request_attributes(method="POST", route=path, status=status, request_id=request_id)
                    told |= {"llm.batch.id": record.ids["batch_id"]} if "batch_id" in record.ids else {}
                    now, failed = self._clock.monotonic(), status >= 500
                    record.trace.end(f"POST {path}", told, record, now, failed=failed)

    async def _answer(self, path: str, body: bytes, caller: Caller, request_id: str) -> LineAnswer:
        unread = [body]
        start: Message = {}
        pieces: list[bytes] = []

        async def receive() -> Message:
            if unread:
                return {"type": "http.request", "body": unread.pop(), "more_body": False}
            await asyncio.get_running_loop().create_future()  # whoever asks does not leave
            raise AssertionError

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
            elif message["type"] == "http.response.body":
                pieces.append(message.get("body", b""))

        try:
            await self._app(_scope(path, body, caller, request_id), receive, send)
        except ServiceError as error:  # after the answer had begun, which no other caller can be told
            wire = to_wire(error)
            told = {name.lower(): value for name, value in wire.headers.items()}
            return LineAnswer(wire.status, request_id, told, error_body(path, wire, request_id=request_id))
        except Exception:
            log.exception("the answer to a line of a batch was cut")
            start["status"] = BROKEN
        headers = {name.decode().lower(): value.decode() for name, value in start.get("headers", ())}
        return LineAnswer(start.get("status", BROKEN), request_id, headers, b"".join(pieces))


def _scope(path: str, body: bytes, caller: Caller, request_id: str) -> Scope:
    return {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": path, "raw_path": path.encode(), "root_path": "", "query_string": b"", "client": None, "server": None,
        "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())],
        "state": {"caller": caller, "request_id": request_id}, "extensions": {},
    }  # fmt: skip


def pause_before_next(answer: LineAnswer, *, tries: int, waited: float, patience: float) -> float | None:
    """In how many seconds a line that was answered so is to be asked again; None: that is its answer. `tries`: how
    often it was asked. `waited`: for how long. Pure, but for chance."""
    if answer.headers.get("x-should-retry") == "false" or waited >= patience:
        return None
    if answer.status not in WAITED_FOR and not (answer.status in TRIED_AGAIN and tries < MOST_TRIES):
        return None
    told = answer.headers.get("retry-after-ms")
    least = float(told) / 1000 if told is not None and told.isdecimal() else 0.0
    grown = min(LONGEST_PAUSE, 0.25 * 2.0 ** min(tries, 10))
    return min(max(least, random.uniform(grown / 2, grown)), patience)


async def answer_to(ask: Asker, path: str, body: bytes, caller: Caller, *, clock: Clock, patience: float) -> LineAnswer:
    """The answer that counts: asked again while it makes sense, for `patience` seconds."""
    began, tries = clock.monotonic(), 0
    while True:
        answer = await ask(path, body, caller)
        tries += 1
        pause = pause_before_next(answer, tries=tries, waited=clock.monotonic() - began, patience=patience)
        if pause is None:
            return answer
        await clock.sleep(pause)
