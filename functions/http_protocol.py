"""uvicorn's HTTP protocol, with what it does wrong for HTTP/1.0 put right, with bounds to how requests come
(`web.receiving`), and with what `web.extensions` describes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from web.clock import RealClock
from web.errors import InvalidRequest, ServiceError
from web.extensions import CONNECTION, REFUSAL, REFUSED
from web.receiving import MOST_HEAD_BYTES, HeadersTooLarge, RequestTooSlow, refusal, refuse_odd_hosts, seconds_left

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from uvicorn._types import ASGI3Application, ASGISendEvent

    from web.clock import Clock, Timer
    from web.extensions import Refused


class Receiving(HttpToolsProtocol):
    """Refuses heads that are too large, and requests that come too slowly. A request that comes in one piece, as nearly
    all do, costs it no timer."""

    clock: Clock = RealClock()
    receive_timeout = 60.0

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._due: Timer | None = None
        self._since = 0.0
        self._received = 0
        self._head_bytes = 0
        self._in_head = self._coming = self._handed_over = False
        self._method: str | None = None
        self._wrong: ServiceError | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._wait_no_more()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._coming:
            self._comes(len(data))
        elif self._handed_over or (self.cycle is not None and not self.cycle.response_complete):
            self._wait_no_more()
        elif self._due is None:
            self._wait()  # empty lines have come, which are no request, and have ended uvicorn's patience

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = self._coming = True
        self._head_bytes = 0
        self._method = None

    def on_headers_complete(self) -> None:
        self._method = self.parser.get_method().decode("ascii")
        try:
            if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > MOST_HEAD_BYTES:
                raise HeadersTooLarge
            if self.parser.get_http_version() == "1.1":
                refuse_odd_hosts(self.headers)
        except ServiceError as error:
            self._wrong = error
            raise
        super().on_headers_complete()
        self._in_head = False

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._coming = False

    def handle_websocket_upgrade(self) -> None:
        self._handed_over = True
        self._coming = False
        super().handle_websocket_upgrade()

    def send_400_response(self, msg: str) -> None:
        self._refuse(self._wrong or InvalidRequest(msg, code="invalid_http"))

    def _comes(self, size: int) -> None:
        self._received += size
        if self._in_head:
            self._head_bytes += size
            if self._head_bytes > 2 * MOST_HEAD_BYTES:  # what was before the head in its first piece counts too
                self._refuse(HeadersTooLarge())
                return
        if self._due is None:
            self._wait()

    def _wait(self) -> None:
        self._since, self._received = self.clock.monotonic(), 0
        self._due = self.clock.call_later(self.receive_timeout, self._late)

    def _wait_no_more(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None

    def _late(self) -> None:
        self._due = None
        if self.transport.is_closing():
            return
        if self.flow.read_paused:  # it is not the sender who makes it wait
            self._wait()
            return
        waited = self.clock.monotonic() - self._since
        left = seconds_left(waited=waited, received=self._received, timeout=self.receive_timeout)
        if left > 0:
            self._due = self.clock.call_later(left, self._late)
        elif self._coming:
            self._refuse(RequestTooSlow())
        else:
            self.transport.close()

    def _refuse(self, error: ServiceError) -> None:
        self._wait_no_more()
        if self.transport.is_closing():
            return
        known = self._coming and not self._in_head and all(cycle is not self.cycle for cycle, _ in self.pipeline)
        request_id = self._told(error, known=known)
        self._coming = False
        # Answers come in the order of requests: it would be read as that to one before it, or as part of its own.
        if known:
            its_turn = not self.cycle.response_started
        else:
            its_turn = (self.cycle is None or self.cycle.response_complete) and not self.pipeline
        if its_turn:
            self.transport.write(refusal(error, request_id=request_id))
        self.transport.close()

    def _told(self, error: ServiceError, *, known: bool) -> str:
        """Tell who counts requests, once: the application, where that has begun to see this one (`known`). Its id."""
        state: dict[str, Any] = self.scope["state"] if known else {}
        request_id = state.get("request_id") or f"req_{os.urandom(16).hex()}"
        if known:
            state[REFUSAL] = error, request_id
        elif (refused := cast("Refused | None", self.app_state.get(REFUSED))) is not None:
            refused(error, request_id=request_id, method=self._method)
        return request_id


class HttpProtocol(Receiving):
    """Chunks are for HTTP/1.1 (RFC 9112, 6.1). A client of HTTP/1.0, nginx's default towards a service behind it among
    them, reads a body of unknown length until the connection closes."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.watchers: set[Callable[[], object]] = set()
        self.lost = False

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        unchunked = cycle.scope["http_version"] == "1.0"
        cycle.__class__ = UnchunkedCycle if unchunked else Cycle
        assert isinstance(cycle, Cycle)
        if unchunked:
            cycle.chunked_encoding = False
        cycle.protocol = self
        cast("dict[str, Any]", cycle.scope)["extensions"] = {CONNECTION: cycle}
        super()._start_asgi_task(cycle, app)

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self.lost = True
        watchers, self.watchers = self.watchers, set()
        for lost in watchers:
            lost()


class Cycle(RequestResponseCycle):
    """A request and its response. It is the request's `web.extensions.Connection`."""

    protocol: HttpProtocol

    async def run_asgi(self, app: ASGI3Application) -> None:
        try:
            await super().run_asgi(app)
        finally:
            # Or else it would hold itself, and its connection would.
            self.scope["extensions"] = {}
            del self.protocol

    def write_now(self, body: bytes) -> bool:
        if not self.chunked_encoding or self.flow.write_paused or self.disconnected or self.response_complete:
            return False
        if body:  # an empty chunk would be the last one
            self.transport.write(b"%x\r\n%b\r\n" % (len(body), body))
        return True

    def watch(self, lost: Callable[[], object]) -> None:
        if self.protocol.lost:
            self.protocol.loop.call_soon(lost)
        else:
            self.protocol.watchers.add(lost)
            self.flow.resume_reading()  # a long body has paused it, and who does not read does not see the end

    def forget(self, lost: Callable[[], object]) -> None:
        self.protocol.watchers.discard(lost)


class UnchunkedCycle(Cycle):
    """A response whose body ends with its connection."""

    async def send(self, message: ASGISendEvent) -> None:
        if message["type"] == "http.response.body":
            self.expected_content_length = len(message.get("body", b""))  # of this piece: it is what is checked
        await super().send(message)
