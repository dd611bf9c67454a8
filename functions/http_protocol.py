"""uvicorn's HTTP protocol, with what it does wrong for HTTP/1.0 put right."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

if TYPE_CHECKING:
    from uvicorn._types import ASGISendEvent


class HttpProtocol(HttpToolsProtocol):
    """Chunks are for HTTP/1.1 (RFC 9112, 6.1). A client of HTTP/1.0, nginx's default towards a service behind it among
    them, reads a body of unknown length until the connection closes."""

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        if self.parser.get_http_version() == "1.0" and self.cycle is not None:
            # Its task was made, and has not run yet.
            self.cycle.__class__ = UnchunkedCycle
            self.cycle.chunked_encoding = False


class UnchunkedCycle(RequestResponseCycle):
    """A response whose body ends with its connection."""

    async def send(self, message: ASGISendEvent) -> None:
        if message["type"] == "http.response.body":
            self.expected_content_length = len(message.get("body", b""))  # of this piece: it is what is checked
        await super().send(message)
