"""A client's connection: parses requests, serves them one after the other, notices when the client leaves.

A client that closes only its sending side is taken as one that has left, as by most servers: from here the two look
the same, and waiting for the difference would keep an engine busy for nobody.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, cast

import httptools

from emulator.ingress.exchange import BODY_BUFFER, ClientLeft, Request, Tunnel, without_delay
from emulator.ingress.http1 import BadRequest, Headers, RequestHead, body_length, first, origin_form, tokens

if TYPE_CHECKING:
    from emulator.clock import Clock

log = logging.getLogger(__name__)

MAX_HEAD = 64 * 1024
"""Bytes of a request's head, roughly: it is looked at after each read."""

MAX_DISCARDED = 4 * 1024 * 1024
"""Bytes of an unread request body that are read and dropped so that an early answer reaches the client."""

DISCARD_SECONDS = 5.0
"""How long that goes on, for a client that neither ends its body nor leaves."""

MAX_PIPELINED = 16
"""Requests that wait on a connection before reading stops; while it reads, it notices when the client leaves."""

Serve = Callable[[Request], Awaitable[None]]


class ClientConnection(asyncio.Protocol):
    """One connection of a client. `serve` answers each of its requests."""

    def __init__(self, serve: Serve, connections: set[ClientConnection], clock: Clock) -> None:
        self._serve = serve
        self._clock = clock
        self._connections = connections
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._headers: Headers = []
        self._head_bytes = 0
        self._in_head = False
        self._rewind: RequestHead | None = None
        self._refused = False
        self._parsing: Request | None = None
        self._queue: deque[Request | BadRequest] = deque()
        self._current: Request | None = None
        self._task: asyncio.Task[None] | None = None
        self._discarding: asyncio.Task[None] | None = None
        self._tunnel: Tunnel | None = None
        self._upgraded = False
        self._early = b""
        self._holds: set[str] = set()
        self._write_paused: asyncio.Future[None] | None = None
        self._closing = False
        self._lost = False

    # The transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        without_delay(transport)
        self._client = self._transport.get_extra_info("peername")[:2]
        self._server = self._transport.get_extra_info("sockname")[:2]
        self._connections.add(self)

    def data_received(self, data: bytes) -> None:
        if self._tunnel is not None:
            self._tunnel.data(data)
        elif self._upgraded:
            self._early += data
            if len(self._early) > BODY_BUFFER:
                self.hold("early")
        elif not self._refused:
            self._feed(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._connections.discard(self)
        self._lost = True
        self._queue.clear()
        if self._discarding is not None:
            self._discarding.cancel()
        if self._tunnel is not None:
            self._tunnel.lost()
        if self._current is not None:
            self._current.leave()
        if self._write_paused is not None and not self._write_paused.done():
            self._write_paused.set_exception(ClientLeft())
            self._write_paused.exception()  # nobody may be waiting: that is no error

    def pause_writing(self) -> None:
        self._write_paused = asyncio.get_running_loop().create_future()
        if self._tunnel is not None:
            self._tunnel.pause_writing()
        elif self._current is not None and self._current.on_pause is not None:
            self._current.on_pause(True)

    def resume_writing(self) -> None:
        if self._write_paused is not None and not self._write_paused.done():
            self._write_paused.set_result(None)
        self._write_paused = None
        if self._tunnel is not None:
            self._tunnel.resume_writing()
        elif self._current is not None and self._current.on_pause is not None:
            self._current.on_pause(False)

    # Wire: what requests and replies ask of the connection

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    async def drain(self) -> None:
        if self._lost:
            raise ClientLeft
        if self._write_paused is not None:
            await asyncio.shield(self._write_paused)

    def hold(self, reason: str) -> None:
        self._holds.add(reason)
        self._transport.pause_reading()

    def release(self, reason: str) -> None:
        self._holds.discard(reason)
        if not self._holds and not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self) -> None:
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    def take_over(self, tunnel: Tunnel) -> None:
        self._tunnel = tunnel
        early, self._early = self._early, b""
        if early:
            tunnel.data(early)
        self.release("early")

    # The owner's side

    def close_when_idle(self) -> None:
        """Close now, or once the request that is being served has been answered."""
        self._closing = True
        if self._current is None and self._tunnel is None:
            self._transport.close()

    async def finished(self) -> None:
        """Wait until the request that is being served, if any, has let go of everything."""
        if self._task is not None:
            await asyncio.wait([self._task])

    # The parser's side

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers = []
        self._head_bytes = 0
        self._in_head = True
        self._parsing = None

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # else a trailer, which a recipient may drop (RFC 9110, 6.5.1)
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self._refused:
            return
        try:
            head = self._head()
        except BadRequest as refusal:
            self._refuse(refusal)
            return
        if self._parser.should_upgrade() and not head.websocket:
            self._rewind = head
            return
        request = Request(self, head)
        self._parsing = request
        self._enqueue(request)

    def on_body(self, data: bytes) -> None:
        if self._parsing is not None:
            self._parsing.body.feed(data)

    def on_message_complete(self) -> None:
        if self._parsing is not None:
            self._parsing.body.end()
            self._parsing = None

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            rest = data[upgrade.args[0] :]
            if self._rewind is not None:
                self._without_upgrade(self._rewind, rest)
            else:
                self._upgraded = True
                self._early = rest
        except httptools.HttpParserError as error:
            if not self._refused:
                self._refuse(BadRequest(400, f"bad request: {error}"))
        else:
            if self._in_head:
                self._head_bytes += len(data)
                if self._head_bytes > MAX_HEAD:
                    self._refuse(BadRequest(431, "request headers too large"))

    def _head(self) -> RequestHead:
        method = self._parser.get_method()
        version = self._parser.get_http_version()
        if method == b"CONNECT":
            raise BadRequest(405, "CONNECT is not supported")
        hosts = sum(1 for name, _ in self._headers if name.lower() == b"host")
        if hosts > 1 or (version == "1.1" and not hosts):
            raise BadRequest(400, "one Host header is required")
        websocket = (
            self._parser.should_upgrade()
            and method == b"GET"
            and tokens(self._headers, b"upgrade") == [b"websocket"]
            and version == "1.1"
        )
        return RequestHead(
            method=method,
            target=origin_form(self._url),
            headers=self._headers,
            http_version=version,
            keep_alive=self._parser.should_keep_alive() and not websocket,
            websocket=websocket,
            length=body_length(self._headers),
            client=self._client,
            server=self._server,
        )

    def _without_upgrade(self, head: RequestHead, rest: bytes) -> None:
        """Parse a request again as what it is without its `Upgrade`, which nobody here takes up (h2c, say).

        The parser stops at such a head, and so would not say where the body ends.
        """
        self._rewind = None
        self._parser = httptools.HttpRequestParser(self)
        lines = [b"%b %b HTTP/%b\r\n" % (head.method, head.target, head.http_version.encode())]
        lines += [b"%b: %b\r\n" % pair for pair in head.headers if pair[0].lower() not in (b"upgrade", b"connection")]
        if not head.keep_alive:
            lines.append(b"Connection: close\r\n")
        self._feed(b"".join(lines) + b"\r\n" + rest)

    # One request after the other

    def _enqueue(self, item: Request | BadRequest) -> None:
        if self._current is None and not self._queue and isinstance(item, Request):
            self._start(item)
            return
        self._queue.append(item)
        if len(self._queue) >= MAX_PIPELINED:
            self.hold("queue")
        if self._current is None:
            self._next()

    def _refuse(self, refusal: BadRequest) -> None:
        self._refused = True
        if self._parsing is not None:
            # In the middle of a body: the request that it belongs to can not be completed.
            self._parsing = None
            self._transport.abort()
        else:
            self._enqueue(refusal)

    def _start(self, request: Request) -> None:
        self._current = request
        self._task = asyncio.get_running_loop().create_task(self._run(request))

    def _next(self) -> None:
        if len(self._queue) < MAX_PIPELINED and "queue" in self._holds:
            self.release("queue")
        if not self._queue:
            if self._closing:
                self._transport.close()
            return
        item = self._queue.popleft()
        if isinstance(item, Request):
            self._start(item)
            return
        head = RequestHead(b"GET", b"/", [], "1.1", False, False, 0, self._client, self._server)
        Request(self, head).reply.text(item.status, f"modal-http: {item.text}")
        self._transport.close()

    async def _run(self, request: Request) -> None:
        reply = request.reply
        try:
            await self._serve(request)
            if not reply.finished and not request.left:
                raise RuntimeError("a request was left without a complete reply")
            if self._queue:
                await self.drain()
        except ClientLeft:
            pass
        except Exception:
            log.exception("serving %r failed", request.head.target)
            if reply.started:
                reply.cut()
            else:
                reply.text(500, "modal-http: internal error")
        finally:
            self._current = self._task = None
            self._after(request)

    def _after(self, request: Request) -> None:
        if self._transport.is_closing() or self._tunnel is not None:
            return
        if not request.body.ended:
            self._discard(request)
        elif request.reply.keep_alive and not (self._closing and not self._queue):
            self._next()
        else:
            self._transport.close()

    def _discard(self, request: Request) -> None:
        """Read what the client still sends, so that closing does not destroy the answer on its way, then close."""
        discarded = 0

        def drop(data: bytes, more: bool) -> None:
            nonlocal discarded
            discarded += len(data)
            if not more or discarded > MAX_DISCARDED:
                self._transport.close()

        self._holds.clear()
        self._transport.resume_reading()
        request.body.pipe(drop)
        self._discarding = asyncio.get_running_loop().create_task(self._stop_discarding())

    async def _stop_discarding(self) -> None:
        await self._clock.sleep(DISCARD_SECONDS)
        self._transport.abort()


def expects_continue(request: Request) -> bool:
    """Whether the client waits for `100 Continue` before it sends the body."""
    head = request.head
    return not request.body.ended and head.http_version == "1.1" and first(head.headers, b"expect") is not None
