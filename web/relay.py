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
from web.dialects.pieces import EngineStream
from web.dialects.sse import comment
from web.errors import ServiceError, to_wire
from web.exchange import Exchange, Patience
from web.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import Receive, Send

    from web.clock import Clock
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
        exchange = self._exchange(request, answer_id)
        created = int(self._clock.time())
        async with exchange:
            async with Presence(receive):
                if request.stream:
                    stream = OpenAIStream(request, answer_id=answer_id, created=created)
                    await self._stream(exchange, stream, StreamingAnswer(send, self._clock))
                else:
                    answer = OpenAIAnswer(request, answer_id=answer_id, created=created)
                    await self._answer(exchange, answer, send)
            if exchange.stream.done:
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
            stream=EngineStream(kind=request.kind, choices=request.choices),
        )  # fmt: skip

    async def _answer(self, exchange: Exchange, answer: OpenAIAnswer, send: Send) -> None:
        async with self._watched(exchange, None):
            await exchange.open()
            while not exchange.stream.done:
                answer.add(await exchange.read())
        await send_body(send, answer.body(exchange.stream.usage))

    async def _stream(self, exchange: Exchange, stream: OpenAIStream, out: StreamingAnswer) -> None:
        try:
            async with self._watched(exchange, out):
                await exchange.open(on_wait=lambda: out.keep_alive(_status(exchange)))
                await self._forward(exchange, stream, out)
        except Exception as error:
            if not out.begun:
                raise
            if not isinstance(error, ServiceError):
                log.exception("a stream failed")
            await out.end(stream.error(to_wire(error)))

    async def _forward(self, exchange: Exchange, stream: OpenAIStream, out: StreamingAnswer) -> None:
        engine, pause = exchange.stream, self._services.coalesce_seconds
        sent = -pause
        while not engine.done:
            pieces = await exchange.read()
            if pause and not engine.done:
                early = sent + pause - self._clock.monotonic()
                if early > 0:
                    await self._clock.sleep(early)
                    pieces += exchange.read_ready()
            if pieces and not engine.done:
                await out.write(stream.pieces(pieces))
                sent = self._clock.monotonic()
        await out.end(stream.pieces(pieces) + stream.end(engine.usage))

    @contextlib.asynccontextmanager
    async def _watched(self, exchange: Exchange, out: StreamingAnswer | None) -> AsyncIterator[None]:
        """Meanwhile: comments for a caller who hears nothing, and an end to an engine that says nothing."""
        beat = asyncio.create_task(self._beat(exchange, out), name="heartbeat")
        try:
            yield
        finally:
            beat.cancel()

    async def _beat(self, exchange: Exchange, out: StreamingAnswer | None) -> None:
        interval = min(self._web.heartbeat_interval, self._services.silence_seconds)
        await self._clock.sleep(min(FIRST_SILENCE_SECONDS, interval))
        while True:
            exchange.check_silence()
            rest = interval
            if out is not None:
                rest -= self._clock.monotonic() - out.last_write
                if rest <= 0 or not out.begun:
                    await out.keep_alive(_status(exchange))
                    rest = interval
            await self._clock.sleep(rest)


def _status(exchange: Exchange) -> str:
    return f"{exchange.phase} {exchange.waited:.1f} s"


class StreamingAnswer:
    """The response of a streaming caller: its headers go with its first bytes. Times are the clock's monotonic."""

    def __init__(self, send: Send, clock: Clock) -> None:
        self._send = send
        self._clock = clock
        self._turn = asyncio.Lock()
        self._ended = False
        self.begun = False
        self.last_write = clock.monotonic()

    async def write(self, data: bytes, *, more: bool = True) -> None:
        """Send bytes: whole events. Waits while the caller reads slowly."""
        async with self._turn:
            if self._ended:
                return
            self._ended = not more
            if not self.begun:
                await self._send({"type": "http.response.start", "status": 200, "headers": STREAM_HEADERS})
                self.begun = True
            await self._send({"type": "http.response.body", "body": data, "more_body": more})
            self.last_write = self._clock.monotonic()

    async def end(self, data: bytes) -> None:
        await self.write(data, more=False)

    async def keep_alive(self, text: str) -> None:
        """Send a comment, unless the caller still has something to read."""
        if not self._turn.locked():
            await self.write(comment(text))
