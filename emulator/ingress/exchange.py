"""One request and the reply to it, as the two kinds of site (functions and servers) handle them."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Protocol

from emulator.ingress.http1 import (
    LAST_CHUNK,
    Framing,
    Headers,
    RequestHead,
    chunk,
    render_response,
    response_framing,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

BODY_BUFFER = 256 * 1024
"""Bytes of a request body that are held for a handler that is behind, before reading from the client stops."""


def without_delay(transport: asyncio.BaseTransport) -> None:
    """Turn Nagle's algorithm off: a stream's pieces leave at once. asyncio does so only for some sockets."""
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class ClientLeft(Exception):
    """The client has closed its connection."""


class Tunnel(Protocol):
    """What takes over a connection after `101 Switching Protocols`."""

    def data(self, data: bytes) -> None: ...

    def lost(self) -> None:
        """The client has gone."""

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...


class Wire(Protocol):
    """What a request and its reply ask of the connection that they came on."""

    def write(self, data: bytes) -> None: ...

    async def drain(self) -> None:
        """Wait while the client is slow to read. Raises `ClientLeft`."""

    def hold(self, reason: str) -> None:
        """Stop reading from the client until every reason to has been released."""

    def release(self, reason: str) -> None: ...

    def release_all(self) -> None:
        """Read on, whatever the reasons were."""

    @property
    def takes_requests(self) -> bool:
        """Whether another request may follow: it is neither closing nor a tunnel."""

    def close(self) -> None:
        """Close once everything that was written has gone out."""

    def abort(self) -> None: ...

    def take_over(self, tunnel: Tunnel) -> None: ...


class Body:
    """The body of a request as it arrives: pulled with `take`, or pushed to the sink given to `pipe`."""

    def __init__(self, wire: Wire) -> None:
        self.ended = False
        self._wire = wire
        self._chunks: list[bytes] = []
        self._size = 0
        self._lost = False
        self._waiter: asyncio.Future[None] | None = None
        self._sink: Callable[[bytes, bool], None] | None = None

    def feed(self, data: bytes) -> None:
        if self._sink is not None:
            self._sink(data, True)
            return
        self._chunks.append(data)
        self._size += len(data)
        if self._size > BODY_BUFFER:
            self._wire.hold("body")
        self._wake()

    def end(self) -> None:
        self.ended = True
        if self._sink is not None:
            self._sink(b"", False)
        self._wake()

    def fail(self) -> None:
        """The rest will never come."""
        self._lost = True
        self._wake()

    async def take(self) -> tuple[bytes, bool]:
        """Everything that has arrived since, and whether more is to come. Raises `ClientLeft`."""
        await self.some()
        return self._collect(), not self.ended

    async def some(self) -> None:
        """Wait until something has arrived, or the end. Raises `ClientLeft`."""
        while not self._chunks and not self.ended:
            if self._lost:
                raise ClientLeft
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    def pipe(self, sink: Callable[[bytes, bool], None]) -> None:
        """From now on call `sink(data, more)` for what arrives; at once for what has arrived already."""
        data = self._collect()
        self._sink = sink
        if data or self.ended:
            sink(data, not self.ended)

    def _collect(self) -> bytes:
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        if self._size > BODY_BUFFER:
            self._wire.release("body")
        self._size = 0
        return data

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Reply:
    """The reply to one request: `start`, then `write` up to one with `last=True`."""

    def __init__(self, wire: Wire, head: RequestHead, body: Body) -> None:
        self.started = False
        self.finished = False
        self.status = 0
        """0 before it is started."""
        self.keep_alive = head.keep_alive
        self._wire = wire
        self._body = body
        self._method = head.method
        self._http_version = head.http_version
        self._framing = Framing.NONE
        self._remaining = 0
        self._held = b""

    def start(self, status: int, headers: Headers, *, length: int | None, reason: bytes = b"") -> None:
        """Make the head ready; it leaves with the first bytes of the body, or at `flush`.

        `headers` are free of what concerns the connection; `length` is the body's in bytes, None when it is not known.
        """
        self.started = True
        self.status = status
        self._framing = response_framing(
            method=self._method, status=status, http_version=self._http_version, length=length
        )
        if self._framing is Framing.CLOSE or not self._body.ended:
            # An answer to what has not been read whole: what follows on the connection may still be the old body.
            self.keep_alive = False
        self._remaining = length or 0
        self._held = render_response(
            status=status,
            headers=headers,
            framing=self._framing,
            length=length,
            connection=self._connection_header(),
            reason=reason,
        )

    def interim(self, status: int, headers: Headers, *, reason: bytes = b"") -> None:
        """Pass on a 100 or 103. HTTP/1.0 does not know them."""
        if not self.started and self._http_version != "1.0":
            head = render_response(
                status=status, headers=headers, framing=Framing.NONE, length=None, connection=None, reason=reason
            )
            self._wire.write(head)

    def write(self, data: bytes, *, last: bool = False) -> None:
        """Send a piece of the body at once; the last one ends the reply."""
        self.write_all((data,), last=last)

    def write_all(self, pieces: Sequence[bytes], *, last: bool = False) -> None:
        """Send pieces of the body at once and together, each a chunk of its own where chunks are what is sent."""
        out, self._held = [self._held], b""
        if self._framing is Framing.CHUNKED:
            out += [chunk(piece) for piece in pieces if piece]
            if last:
                out.append(LAST_CHUNK)
        elif self._framing is Framing.LENGTH:
            out.append(self._within_length(b"".join(pieces)))
        elif self._framing is Framing.CLOSE:
            out += pieces
        if data := b"".join(out):
            self._wire.write(data)
        if last:
            self.finished = True
            if self._framing is Framing.LENGTH and self._remaining:
                self.cut()

    def _within_length(self, data: bytes) -> bytes:
        if len(data) > self._remaining:
            data = data[: self._remaining]
            self.keep_alive = False
        self._remaining -= len(data)
        return data

    def flush(self) -> None:
        """Send the head now, when there is no body to send with it yet."""
        if self._held:
            self.write(b"")

    async def drain(self) -> None:
        """Wait while the client is slow to read. Raises `ClientLeft`."""
        await self._wire.drain()

    def cut(self) -> None:
        """End a reply that was begun, in a way that the client can tell from a complete one."""
        self.finished = True
        self.keep_alive = False
        if self._framing is Framing.CLOSE:
            self._wire.abort()
            return
        if self._held:
            self.write(b"")
        self._wire.close()

    def text(self, status: int, text: str, headers: Headers | None = None) -> None:
        """A whole reply of one line of plain text."""
        body = f"{text}\n".encode()
        content_type = (b"Content-Type", b"text/plain; charset=utf-8")
        self.start(status, [content_type, *(headers or [])], length=len(body))
        self.write(body, last=True)

    def take_over(self, tunnel: Tunnel, data: bytes) -> Wire:
        """Send `data` (a 101 head and what follows), and hand the connection to `tunnel` for good."""
        self.started = self.finished = True
        self.status = 101
        self._wire.write(data)
        self._wire.take_over(tunnel)
        return self._wire

    def _connection_header(self) -> bytes | None:
        if self._http_version == "1.0":
            return b"keep-alive" if self.keep_alive else b"close"
        return None if self.keep_alive else b"close"


class Request:
    """One request: its head, its body as it arrives, and the reply to write."""

    def __init__(self, wire: Wire, head: RequestHead) -> None:
        self.head = head
        self.wire = wire
        self.body = Body(wire)
        self.reply = Reply(wire, head, self.body)
        self.left = False
        self.on_pause: Callable[[bool], None] | None = None
        """Called with True when the client is slow to read, with False when it has caught up."""
        self._on_left: Callable[[], None] | None = None

    def on_left(self, callback: Callable[[], None] | None) -> None:
        """Call `callback` at the moment at which the client closes its connection, unless the reply is complete."""
        self._on_left = callback
        if self.left and callback is not None:
            callback()

    def leave(self) -> None:
        """The client has gone."""
        self.left = True
        self.body.fail()
        if self._on_left is not None and not self.reply.finished:
            self._on_left()
