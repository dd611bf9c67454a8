"""From an internal request to an answer on the wire: as a stream that is never silent, or as one object."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from typing import TYPE_CHECKING

from web.asgi import Presence, send_body
from web.dialects.engines import engine_call
from web.dialects.openai_answer import OpenAIAnswer, OpenAIStream
from web.dialects.sse import comment
from web.dialects.translation import StreamedAnswer, WholeAnswer
from web.errors import ServiceError, to_wire
from web.exchange import Exchange, Patience
from web.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import Receive, Send

    from web.dialects.request import GenerationRequest
    from web.services import Services

log = logging.getLogger(__name__)

STREAM_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]
FIRST_SILENCE_SECONDS = 2.0
"""How long a streaming caller's status is held back, so that an engine's quick refusal can still be a status."""


class Relay:
    """Serves requests from engines. Holds no connection before the first request, nor after `close`."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._clock = services.clock
        self._web = services.settings.web
        self._upstream = Upstream(clock=services.clock)

    async def serve(self, request: GenerationRequest, receive: Receive, send: Send) -> None:
        """Answer `request`. Returns early, having ended the engine's work, when the caller leaves.

        Raises ServiceError as long as nothing of the answer was sent; later failures are told in the stream.
        """
        answer_id = ("chatcmpl-" if request.kind == "chat" else "cmpl-") + secrets.token_hex(16)
        created = int(self._clock.time())
        async with self._exchange(request, answer_id) as exchange:
            async with Presence(receive):
                if request.stream:
                    stream = OpenAIStream(request, answer_id=answer_id, created=created)
                    await self._stream(exchange, StreamedAnswer(request, stream), StreamingResponse(send))
                else:
                    answer = OpenAIAnswer(request, answer_id=answer_id, created=created)
                    await self._answer(exchange, WholeAnswer(request, answer), send)
            await exchange.settle()

    async def close(self) -> None:
        await self._upstream.close()

    def _exchange(self, request: GenerationRequest, rid: str) -> Exchange:
        target = self._services.engines.resolve(request.model)
        patience = Patience(
            boot=self._web.boot_deadline if request.stream else self._web.plain_deadline,
            silence=self._services.silence_seconds,
        )
        return Exchange(
            upstream=self._upstream, clock=self._clock, target=target, patience=patience, affinity=request.affinity,
            call=engine_call(request, kind=target.kind, model=target.model, rid=rid),
        )  # fmt: skip

    async def _answer(self, exchange: Exchange, answer: WholeAnswer, send: Send) -> None:
        async with self._watched(exchange, None):
            await exchange.open()
            while not answer.done:
                answer.feed(await exchange.read())
                if answer.failure is not None:
                    raise answer.failure
        exchange.finish()
        await send_body(send, answer.body())

    async def _stream(self, exchange: Exchange, answer: StreamedAnswer, out: StreamingResponse) -> None:
        try:
            async with self._watched(exchange, out):
                await exchange.open(on_wait=lambda: out.comment(_status(exchange)))
                await self._forward(exchange, answer, out)
        except Exception as error:
            if not out.begun:
                raise
            if not isinstance(error, ServiceError):
                log.exception("a stream failed")
            await out.end(OpenAIStream.error(to_wire(error)))

    async def _forward(self, exchange: Exchange, answer: StreamedAnswer, out: StreamingResponse) -> None:
        pause = self._services.coalesce_seconds
        sent = -pause
        while True:
            data = await exchange.read()
            if pause and (early := sent + pause - self._clock.monotonic()) > 0:
                await self._clock.sleep(early)
                data += exchange.read_ready()
            told = answer.feed(data)
            if answer.done:
                exchange.finish()
                await out.end(told + answer.end())
                return
            if told:
                await out.write(told)
                sent = self._clock.monotonic() if pause else 0.0
            if answer.failure is not None:
                raise answer.failure

    @contextlib.asynccontextmanager
    async def _watched(self, exchange: Exchange, out: StreamingResponse | None) -> AsyncIterator[None]:
        """Meanwhile: comments for a caller who hears nothing, and an end to an engine that says nothing."""
        beat = asyncio.create_task(self._beat(exchange, out), name="heartbeat")
        try:
            yield
        finally:
            beat.cancel()

    async def _beat(self, exchange: Exchange, out: StreamingResponse | None) -> None:
        # A comment goes where nothing was written for a whole pause: so a silence is shorter than two of them.
        pause = min(self._web.heartbeat_interval, self._services.silence_seconds) / 2
        await self._clock.sleep(min(FIRST_SILENCE_SECONDS, pause))
        while True:
            exchange.check_silence()
            if out is not None:
                if not out.written:
                    await out.comment(_status(exchange))
                out.written = False
            await self._clock.sleep(pause)


def _status(exchange: Exchange) -> str:
    return f"{exchange.phase} {exchange.waited:.1f} s"


class StreamingResponse:
    """The response of a streaming caller: its headers go with its first bytes. `written` is set by every write."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._writing = False
        self._commenting: asyncio.Future[None] | None = None
        self.begun = False
        self.written = False

    async def write(self, data: bytes, *, more: bool = True) -> None:
        """Send bytes: whole events. Waits while the caller reads slowly."""
        if self._commenting is not None:
            await self._commenting
        self._writing = self.written = True
        if not self.begun:
            await self._begin()
        await self._send({"type": "http.response.body", "body": data, "more_body": more})
        # Left set by an interruption, and by the end: no comment may follow either.
        self._writing = not more

    async def end(self, data: bytes) -> None:
        await self.write(data, more=False)

    async def comment(self, text: str) -> None:
        """Send a comment, unless the caller has not taken yet what was sent before."""
        if self._writing or self._commenting is not None:
            return
        self._commenting = done = asyncio.get_running_loop().create_future()
        try:
            if not self.begun:
                await self._begin()
            await self._send({"type": "http.response.body", "body": comment(text), "more_body": True})
        finally:
            self._commenting = None
            if not done.done():
                done.set_result(None)

    async def _begin(self) -> None:
        await self._send({"type": "http.response.start", "status": 200, "headers": STREAM_HEADERS})
        self.begun = True
