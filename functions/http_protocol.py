"""uvicorn's HTTP protocol, with what it does wrong for HTTP/1.0 put right, and with what `web.extensions` describes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from web.extensions import CONNECTION

if TYPE_CHECKING:
    from collections.abc import Callable

    from uvicorn._types import ASGI3Application, ASGISendEvent


class HttpProtocol(HttpToolsProtocol):
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
