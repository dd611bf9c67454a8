"""Requests to web functions: each is an input, its body and its answer messages to and from the container."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from emulator.ingress.asgi import http_disconnect, request_body, response_headers, scope
from emulator.ingress.call import Call, failed
from emulator.ingress.exchange import ClientLeft
from emulator.ingress.turns import expects_continue
from emulator.ingress.websocket import serve_websocket

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modal_proto import api_pb2

    from emulator.clock import Clock
    from emulator.ingress.base import FunctionBackend, WebInput
    from emulator.ingress.exchange import Request
    from emulator.ingress.tasks import Tasks

FIRST_BYTE_SECONDS = 150.0
"""After this long without an answer the client is sent to a result URL: https://modal.com/docs/guide/webhook-timeouts"""

MAX_REDIRECTS = 20
"""How often: as many as browsers follow."""

RESULT_SECONDS = 600.0
"""How long an answer waits for a client that was sent to a result URL and has not come."""

EMPTY_BODY_SECONDS = 1.0
"""After this long a request is handed on without the first byte of its body: the runtime answers 408 after 5 s."""

CALL_ID = "__modal_function_call_id"

UNKNOWN_RESULT = "modal-http: no such result"


@dataclass
class Parked:
    """A call whose client was sent to a result URL."""

    call: Call
    redirects: int
    claimed: bool = False


class FunctionSite:
    """One web function at its addresses."""

    def __init__(
        self, *, backend: FunctionBackend, clock: Clock, tasks: Tasks, results: dict[str, Parked] | None = None
    ) -> None:
        self.results = results if results is not None else {}
        """Of clients that were sent to a result URL: handed on when a redeploy swaps the backend."""
        self._backend = backend
        self._clock = clock
        self._tasks = tasks

    def close(self) -> None:
        """Nothing is held between requests; what is being served goes on."""

    async def serve(self, request: Request) -> None:
        """Answer one request."""
        if request.head.websocket:
            await serve_websocket(request, backend=self._backend, clock=self._clock, tasks=self._tasks)
            return
        call_id = result_id(request.head.target)
        if call_id is None:
            call = Call(
                backend=self._backend, scope=scope(request.head), feed=Feeder(request, self._clock), clock=self._clock
            )
            self._tasks.spawn(call.run())
            await self._answer(request, call, redirects=0)
        elif (parked := self.results.pop(call_id, None)) is not None:
            parked.claimed = True
            await self._answer(request, parked.call, redirects=parked.redirects)
        else:
            request.reply.text(404, UNKNOWN_RESULT)

    async def _answer(self, request: Request, call: Call, *, redirects: int) -> None:
        def left() -> None:
            call.arrived.set()
            call.answered.set()
            self._tasks.spawn(call.leave(http_disconnect()))

        request.on_left(left)
        try:
            async with self._clock.timeout(FIRST_BYTE_SECONDS):
                await call.arrived.wait()
        except TimeoutError:
            if not request.left and request.body.ended:
                self._redirect(request, call, redirects=redirects)
                return
            await call.arrived.wait()
        if not request.left:
            call.attach(HttpReceiver(request))
        await call.answered.wait()
        self._conclude(request, call)

    def _conclude(self, request: Request, call: Call) -> None:
        reply = request.reply
        if request.left:
            return
        if not reply.finished:
            if reply.started:
                reply.cut()
            else:
                reply.text(500, failed(call.failure))
        if not call.done.is_set():
            self._tasks.spawn(call.linger(http_disconnect()))

    def _redirect(self, request: Request, call: Call, *, redirects: int) -> None:
        request.on_left(None)
        if redirects >= MAX_REDIRECTS:
            request.reply.text(504, f"modal-http: no answer after {redirects} redirects")
            self._tasks.spawn(call.leave(http_disconnect()))
            return
        call_id = f"fc-{secrets.token_hex(12)}"
        parked = self.results[call_id] = Parked(call, redirects + 1)
        self._tasks.spawn(self._expire(call_id, parked))
        location = result_target(request.head.target, call_id)
        request.reply.text(303, "modal-http: the answer takes longer, see Location", [(b"Location", location)])

    async def _expire(self, call_id: str, parked: Parked) -> None:
        await self._clock.sleep(RESULT_SECONDS)
        if not parked.claimed:
            self.results.pop(call_id, None)
            await parked.call.leave(http_disconnect())


class Feeder:
    """Hands a request's body to its input, as it arrives."""

    def __init__(self, request: Request, clock: Clock) -> None:
        self._request = request
        self._clock = clock

    async def __call__(self, web_input: WebInput) -> None:
        body = self._request.body
        if expects_continue(self._request):
            self._request.reply.interim(100, [])
        if not body.ended:
            try:
                async with self._clock.timeout(EMPTY_BODY_SECONDS):
                    await body.some()
            except TimeoutError:
                await web_input.send(request_body(b"", True))
        more = True
        while more:
            data, more = await body.take()
            await web_input.send(request_body(data, more))


class HttpReceiver:
    """Writes an application's events to the reply."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._reply = request.reply
        self._last = False

    @property
    def finished(self) -> bool:
        return self._reply.finished

    async def events(self, events: Sequence[api_pb2.Asgi]) -> None:
        if self._request.left:
            raise ClientLeft
        pieces: list[bytes] = []
        try:
            for event in events:
                if self._reply.finished or self._last:
                    break
                self._event(event, pieces)
        finally:
            if pieces:
                self._reply.write_all(pieces, last=self._last)
            else:
                self._reply.flush()
        await self._reply.drain()

    def _event(self, event: api_pb2.Asgi, pieces: list[bytes]) -> None:
        kind = event.WhichOneof("type")
        if kind == "http_response_body":
            if not self._reply.started:
                raise ValueError("a response body before its start")
            pieces.append(event.http_response_body.body)
            self._last = not event.http_response_body.more_body
        elif kind == "http_response_start":
            if self._reply.started:
                raise ValueError("a second response start")
            headers, length = response_headers(event.http_response_start.headers)
            self._reply.start(event.http_response_start.status, headers, length=length)
        elif kind != "http_response_trailers":
            raise ValueError(f"{kind} in answer to an HTTP request")


def result_id(target: bytes) -> str | None:
    """The call that a result URL asks for, or None for any other URL."""
    _, _, query = target.partition(b"?")
    if CALL_ID.encode() not in query:
        return None
    return dict(parse_qsl(query.decode("latin-1"))).get(CALL_ID)


def result_target(target: bytes, call_id: str) -> bytes:
    """The result URL for a request: the same, with the call's id in the query."""
    path, _, query = target.partition(b"?")
    kept = [part for part in query.split(b"&") if part and not part.startswith(CALL_ID.encode())]
    return path + b"?" + b"&".join([*kept, f"{CALL_ID}={call_id}".encode()])
