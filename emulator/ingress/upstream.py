"""Connections to servers in containers: one response at a time, its bytes handed to the client's reply as they come."""

from __future__ import annotations

import asyncio
from enum import Enum
from typing import TYPE_CHECKING, cast

import httptools

from emulator.ingress.exchange import without_delay
from emulator.ingress.http1 import (
    LAST_CHUNK,
    Framing,
    Headers,
    body_length,
    chunk,
    first,
    forwarded,
    render_response,
    tokens,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from emulator.ingress.exchange import Request, Wire


class Outcome(Enum):
    """How one exchange with a server ended."""

    COMPLETE = "complete"
    UNANSWERED = "the connection ended before an answer"
    INVALID = "the answer was no valid HTTP"
    CUT = "the connection ended in the middle of the answer"
    TUNNEL = "the connection became a tunnel"
    LEFT = "the client left"


class Upstream(asyncio.Protocol):
    """One connection to a server."""

    reusable = True
    """Whether another request may follow on this connection."""

    def __init__(self, on_lost: Callable[[Upstream], None]) -> None:
        self.idle_since = 0.0
        self.answered = False
        """Whether anything of an answer has come."""
        self._on_lost = on_lost
        self._parser = httptools.HttpResponseParser(self)
        self._request: Request | None = None
        self._done: asyncio.Future[Outcome] | None = None
        self._reason = b""
        self._headers: Headers = []
        self._in_head = False
        self._interim = False
        self._to_close = False
        self._complete = False
        self._parts: list[bytes] = []
        self._tunnel: Wire | None = None

    # One exchange

    def begin(self, request: Request, head: bytes) -> asyncio.Future[Outcome]:
        """Send a request, its body as it arrives, and let the answer flow into its reply."""
        self._request = request
        self._complete = self.answered = False
        self._done = asyncio.get_running_loop().create_future()
        request.on_pause = self._pause
        framed = request.head.length is None
        held = [head]

        def send(data: bytes, more: bool) -> None:
            if framed and data:
                data = chunk(data)
            if framed and not more:
                data += LAST_CHUNK
            if held:
                data = held.pop() + data
            if data and not self._transport.is_closing():
                self._transport.write(data)

        request.body.pipe(send)
        if held:
            self._transport.write(held.pop())
        return self._done

    def abandon(self) -> None:
        """The client has left: close at once, so that the server notices at once."""
        self._transport.abort()
        self._settle(Outcome.LEFT)

    def close(self) -> None:
        self.reusable = False
        self._transport.close()

    @property
    def alive(self) -> bool:
        return self.reusable and not self._transport.is_closing()

    # The transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        without_delay(transport)

    def data_received(self, data: bytes) -> None:
        if self._tunnel is not None:
            self._tunnel.write(data)
            return
        if self._request is None:
            self.close()  # it speaks without having been asked
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._open_tunnel(data[upgrade.args[0] :])
            return
        except httptools.HttpParserError:
            if not self._complete:
                self._fail(Outcome.INVALID)
                return
            self.reusable = False  # an answer, and then something else: the answer stands
        self._pass_on()

    def connection_lost(self, exc: Exception | None) -> None:
        self.reusable = False
        self._on_lost(self)
        if self._tunnel is not None:
            self._tunnel.close()
        elif self._request is not None:
            if self._to_close and exc is None:
                self._complete = True
                self._pass_on()
            else:
                self._fail(Outcome.CUT if self._request.reply.started else Outcome.UNANSWERED)

    def pause_writing(self) -> None:
        self._hold_client(True)

    def resume_writing(self) -> None:
        self._hold_client(False)

    # The parser's side

    def on_message_begin(self) -> None:
        if self._complete:
            self.reusable = False
        self.answered = True
        self._headers = []
        self._reason = b""
        self._in_head = True

    def on_status(self, status: bytes) -> None:
        self._reason += status

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self._complete or self._request is None:
            return
        request, status = self._request, self._parser.get_status_code()
        headers = forwarded(self._headers)
        self._interim = status < 200
        if self._interim:
            if status in (100, 103):
                request.reply.interim(status, headers, reason=self._reason)
            return
        bodiless = request.head.method == b"HEAD" or status in (204, 304)
        known = first(self._headers, b"content-length") is not None
        length = body_length(self._headers) if known or tokens(self._headers, b"transfer-encoding") else None
        self._to_close = not bodiless and not known and not tokens(self._headers, b"transfer-encoding")
        if self._to_close or not self._parser.should_keep_alive() or self._parser.get_http_version() == "1.0":
            self.reusable = False
        request.reply.start(status, headers, length=length, reason=self._reason)
        if request.head.method == b"HEAD":
            # The parser can not be told that no body follows, so this connection ends here.
            self._complete, self.reusable = True, False

    def on_body(self, data: bytes) -> None:
        if not self._complete:
            self._parts.append(data)

    def on_message_complete(self) -> None:
        if not self._interim:
            self._complete = True

    # Between the two

    def _pass_on(self) -> None:
        request = self._request
        if request is None:
            return
        parts, self._parts = self._parts, []
        if parts or self._complete:
            data = parts[0] if len(parts) == 1 else b"".join(parts)
            request.reply.write(data, last=self._complete)
        else:
            request.reply.flush()
        if self._complete:
            if not request.body.ended:
                self.reusable = False
            self._settle(Outcome.COMPLETE)

    def _fail(self, outcome: Outcome) -> None:
        request = self._request
        if request is not None and request.reply.started:
            if self._parts:
                request.reply.write(b"".join(self._parts))
            request.reply.cut()
            outcome = Outcome.CUT
        self.close()
        self._settle(outcome)

    def _settle(self, outcome: Outcome) -> None:
        request, self._request = self._request, None
        self._parts.clear()
        if request is not None:
            request.on_pause = None
            request.on_left(None)
            self._hold_client(False, request)
            if not self._transport.is_closing():
                self._transport.resume_reading()  # the last piece may have been one too many for the client
        if self._done is not None and not self._done.done():
            self._done.set_result(outcome)

    def _pause(self, paused: bool) -> None:
        if paused:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _hold_client(self, hold: bool, request: Request | None = None) -> None:
        request = request or self._request
        wire = self._tunnel or (request.wire if request is not None else None)
        if wire is not None:
            (wire.hold if hold else wire.release)("upstream")

    # A tunnel, after 101

    def _open_tunnel(self, rest: bytes) -> None:
        request = self._request
        if request is None or not request.head.websocket:
            self._fail(Outcome.INVALID)
            return
        self.reusable = False
        headers = [*forwarded(self._headers), (b"Upgrade", b"websocket")]
        head = render_response(
            status=101, headers=headers, framing=Framing.NONE, length=None, connection=b"Upgrade", reason=self._reason
        )
        self._tunnel = request.wire
        request.reply.take_over(_ToUpstream(self._transport, self._done), head + rest)
        self._request = None


class _ToUpstream:
    """The client's half of a tunnel: what it sends goes to the server, untouched."""

    def __init__(self, transport: asyncio.Transport, done: asyncio.Future[Outcome] | None) -> None:
        self._transport = transport
        self._done = done

    def data(self, data: bytes) -> None:
        self._transport.write(data)

    def lost(self) -> None:
        # Not abort: a close frame may be on its way.
        self._transport.close()
        if self._done is not None and not self._done.done():
            self._done.set_result(Outcome.TUNNEL)

    def pause_writing(self) -> None:
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._transport.resume_reading()
