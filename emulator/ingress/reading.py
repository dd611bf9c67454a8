"""From a client's bytes to requests: one parser (llhttp, through httptools) decides where each ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import httptools

from emulator.ingress.http1 import BadRequest, Headers, RequestHead, body_length, origin_form, tokens

if TYPE_CHECKING:
    from emulator.ingress.exchange import Body

MAX_HEAD = 64 * 1024
"""Bytes of a request's head, roughly: it is looked at after each read."""

MAX_BODY = 4 * 1024**3
"""Bytes of a request's body: https://modal.com/docs/guide/webhooks ("request bodies can be up to 4 GiB")."""

TOO_LARGE = BadRequest(413, "request body too large: up to 4 GiB are taken")


class Taker(Protocol):
    """Who takes what was read."""

    def begin(self, head: RequestHead) -> Body:
        """A request has begun; what follows of it goes into the body."""

    def refuse(self, refusal: BadRequest) -> None:
        """What came is no request that is taken, and nothing that follows will be read."""

    def broken(self) -> None:
        """The request that was begun last can not be completed, and nothing that follows will be read."""

    def upgraded(self, rest: bytes) -> None:
        """The request that was begun last asks for a WebSocket; `rest` is the first of what follows its head."""


class RequestReader:
    """Reads one connection."""

    def __init__(self, taker: Taker, *, client: tuple[str, int], server: tuple[str, int]) -> None:
        self._taker = taker
        self._client = client
        self._server = server
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._headers: Headers = []
        self._head_bytes = 0
        self._in_head = False
        self._rewind: RequestHead | None = None
        self._refused = False
        self._body: Body | None = None
        self._body_bytes = 0

    def feed(self, data: bytes) -> None:
        """Read on. Nothing is read after a refusal."""
        if self._refused:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            rest = data[upgrade.args[0] :]
            if self._rewind is not None:
                self._without_upgrade(self._rewind, rest)
            else:
                self._taker.upgraded(rest)
        except httptools.HttpParserError as error:
            self._refuse(BadRequest(400, f"bad request: {error}"))
        else:
            if self._in_head:
                self._head_bytes += len(data)
                if self._head_bytes > MAX_HEAD:
                    self._refuse(BadRequest(431, "request headers too large"))

    # The parser's side

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers = []
        self._head_bytes = self._body_bytes = 0
        self._in_head = True
        self._body = None

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
        self._body = self._taker.begin(head)

    def on_body(self, data: bytes) -> None:
        if self._body is None:
            return
        self._body_bytes += len(data)
        if self._body_bytes > MAX_BODY:
            self._refuse(TOO_LARGE)
        else:
            self._body.feed(data)

    def on_message_complete(self) -> None:
        if self._body is not None:
            self._body.end()
            self._body = None

    # Between the two

    def _refuse(self, refusal: BadRequest) -> None:
        if self._refused:
            return
        self._refused = True
        if self._body is not None:
            self._body = None
            self._taker.broken()
        else:
            self._taker.refuse(refusal)

    def _head(self) -> RequestHead:
        method = self._parser.get_method()
        version = self._parser.get_http_version()
        if method == b"CONNECT":
            raise BadRequest(405, "CONNECT is not supported")
        hosts = sum(1 for name, _ in self._headers if name.lower() == b"host")
        if hosts > 1 or (version == "1.1" and not hosts):
            raise BadRequest(400, "one Host header is required")
        length = body_length(self._headers)
        if length is not None and length > MAX_BODY:
            raise TOO_LARGE
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
            length=length,
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
        self.feed(b"".join(lines) + b"\r\n" + rest)
