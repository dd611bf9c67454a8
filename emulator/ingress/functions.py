"""Requests to web functions: each is an input, its body and its answer messages to and from the container."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emulator.ingress.asgi import http_disconnect, request_body, scope
from emulator.ingress.call import Call, conclude
from emulator.ingress.receiver import HttpReceiver
from emulator.ingress.results import BAD_METHOD, FIRST_BYTE_SECONDS, UNKNOWN_RESULT, Result, result_id
from emulator.ingress.turns import expects_continue
from emulator.ingress.websocket import serve_websocket

if TYPE_CHECKING:
    from emulator.clock import Clock
    from emulator.ingress.base import FunctionBackend, WebInput
    from emulator.ingress.exchange import Request
    from emulator.ingress.moving import Moving
    from emulator.ingress.tasks import Tasks

EMPTY_BODY_SECONDS = 1.0
"""After this long a request is handed on without the first byte of its body: the runtime answers 408 after 5 s."""


class FunctionSite:
    """One web function at its addresses."""

    def __init__(
        self,
        *,
        backend: FunctionBackend,
        clock: Clock,
        tasks: Tasks,
        moving: Moving,
        results: dict[str, Result] | None = None,
    ) -> None:
        self.results = results if results is not None else {}
        """Of clients that were sent to a result URL: handed on when a redeploy swaps the backend."""
        self._backend = backend
        self._clock = clock
        self._tasks = tasks
        self._moving = moving

    def guards(self, _request: Request) -> bool:
        return False

    def close(self) -> None:
        """Nothing is held between requests; what is being served goes on."""

    async def serve(self, request: Request) -> None:
        """Answer one request."""
        if request.head.websocket:
            await serve_websocket(request, backend=self._backend, clock=self._clock, tasks=self._tasks)
            return
        call_id = result_id(request.head.target)
        if call_id is not None:
            await self._serve_result(request, call_id)
            return
        feed = Feeder(request, self._clock, self._moving)
        call = Call(backend=self._backend, scope=scope(request.head), feed=feed, clock=self._clock)
        self._tasks.spawn(call.run())
        await self._answer(request, call)

    async def _serve_result(self, request: Request, call_id: str) -> None:
        result = self.results.get(call_id)
        if request.head.method != b"GET":
            request.reply.text(400, BAD_METHOD)
        elif result is None:
            request.reply.text(404, UNKNOWN_RESULT)
        else:
            await result.serve(request)

    async def _answer(self, request: Request, call: Call) -> None:
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
                request.on_left(None)
                result = Result(call, clock=self._clock, tasks=self._tasks, results=self.results)
                result.redirect(request)
                return
            await call.arrived.wait()
        if not request.left:
            call.attach(HttpReceiver(request))
        await call.answered.wait()
        if not request.left:
            conclude(request.reply, call.failure)
            if not call.done.is_set():
                self._tasks.spawn(call.linger(http_disconnect()))


class Feeder:
    """Hands a request's body to its input, as it arrives."""

    def __init__(self, request: Request, clock: Clock, moving: Moving) -> None:
        self._moving = moving
        self._request = request
        self._clock = clock

    async def __call__(self, web_input: WebInput) -> None:
        with self._moving.one("a request's body on its way to a web function"):
            await self._feed(web_input)

    async def _feed(self, web_input: WebInput) -> None:
        body = self._request.body
        if expects_continue(self._request):
            self._request.reply.interim(100, [])
        if not body.ended:
            try:
                async with self._clock.outside.timeout(EMPTY_BODY_SECONDS):
                    await body.some()
            except TimeoutError:
                await web_input.send(request_body(b"", True))
        more = True
        while more:
            data, more = await body.take()
            await web_input.send(request_body(data, more))
