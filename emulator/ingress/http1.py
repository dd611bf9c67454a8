"""HTTP/1.1 heads: what was parsed, and what is written. Pure.

One parser (llhttp, through httptools) decides where a message ends. Nothing that it read about framing is passed on as
bytes: `Content-Length` and `Transfer-Encoding` are always written anew from what the parser understood, so that the
next hop cannot understand them differently.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

Headers = list[tuple[bytes, bytes]]

HOP_BY_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade")
)
"""RFC 9110, 7.6.1: these concern one connection, not the message."""

_ESSENTIAL = frozenset((b"host", b"content-length", b"content-type", b"authorization"))
"""A `Connection` header that names one of these does not remove it: it would change what the request means."""


class BadRequest(Exception):
    """A request that is refused without asking anyone: `status` and a line of text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


@dataclass(slots=True)
class RequestHead:
    """A request line and its headers, as they came."""

    method: bytes
    target: bytes
    """Origin form: path and query, still percent-encoded."""
    headers: Headers
    http_version: str
    """`1.0` or `1.1`."""
    keep_alive: bool
    websocket: bool
    length: int | None
    """Of the body in bytes; None when it is chunked."""
    client: tuple[str, int]
    server: tuple[str, int]
    prefix: bytes = b""
    """The part of the path that chose the function or server, when the address does: `/label`."""

    def first(self, name: bytes) -> bytes | None:
        """The first value of a header; `name` in lower case."""
        return first(self.headers, name)


def first(headers: Headers, name: bytes) -> bytes | None:
    """The first value of a header; `name` in lower case."""
    size = len(name)
    for key, value in headers:
        if len(key) == size and key.lower() == name:
            return value
    return None


def tokens(headers: Headers, name: bytes) -> list[bytes]:
    """All members of a comma-separated header, in lower case."""
    return [
        part.strip().lower()
        for key, value in headers
        if key.lower() == name
        for part in value.split(b",")
        if part.strip()
    ]


def origin_form(target: bytes) -> bytes:
    """The path and query of a request target. Raises `BadRequest` for one that has none."""
    if target.startswith(b"/"):
        return target
    scheme, separator, rest = target.partition(b"://")
    if separator and scheme.lower() in (b"http", b"https"):
        slash = min((at for at in (rest.find(b"/"), rest.find(b"?")) if at >= 0), default=-1)
        if slash < 0:
            return b"/"
        return rest[slash:] if rest[slash : slash + 1] == b"/" else b"/" + rest[slash:]
    if target == b"*":
        return b"/*"
    raise BadRequest(400, "bad request target")


def body_length(headers: Headers) -> int | None:
    """The length that the parser has found valid: bytes, or None for a chunked body. No header at all: 0."""
    coding = tokens(headers, b"transfer-encoding")
    if coding:
        if coding != [b"chunked"]:
            raise BadRequest(501, "only the transfer coding chunked is supported")
        return None
    length = first(headers, b"content-length")
    return int(length) if length is not None else 0


def forwarded(headers: Headers, *, without: Collection[bytes] = ()) -> Headers:
    """The headers that go on to the next hop: all but framing, what concerns this connection, and `without`."""
    dropped = HOP_BY_HOP.union(without, (b"content-length",))
    named = [token for token in tokens(headers, b"connection") if token not in _ESSENTIAL]
    if named:
        dropped = dropped.union(named)
    return [(name, value) for name, value in headers if name.lower() not in dropped]


def render_request(head: RequestHead, *, target: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The head for the next hop. `headers` have been through `forwarded`; framing is added here."""
    lines = [b"%b %b HTTP/1.1\r\n" % (head.method, target)]
    lines += [b"%b: %b\r\n" % pair for pair in headers]
    if head.websocket:
        lines.append(b"Connection: Upgrade\r\nUpgrade: websocket\r\n")
    elif head.length is None:
        lines.append(b"Transfer-Encoding: chunked\r\n")
    elif head.length or head.first(b"content-length") is not None:
        lines.append(b"Content-Length: %d\r\n" % head.length)
    lines.append(b"\r\n")
    return b"".join(lines)


class Framing(Enum):
    """How the receiver of a response knows where its body ends."""

    NONE = "none"
    LENGTH = "length"
    CHUNKED = "chunked"
    CLOSE = "close"


def response_framing(*, method: bytes, status: int, http_version: str, length: int | None) -> Framing:
    """The framing towards the client of a body of `length` bytes (None: unknown yet)."""
    if method == b"HEAD" or status in (204, 304) or status < 200:
        return Framing.NONE
    if length is not None:
        return Framing.LENGTH
    return Framing.CHUNKED if http_version == "1.1" else Framing.CLOSE


_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}


def render_response(
    *,
    status: int,
    headers: Headers,
    framing: Framing,
    length: int | None,
    connection: bytes | None,
    reason: bytes = b"",
) -> bytes:
    """A response head. `headers` have been through `forwarded`; framing is added here."""
    lines = [b"HTTP/1.1 %d %b\r\n" % (status, reason or _REASONS.get(status, b""))]
    lines += [b"%b: %b\r\n" % pair for pair in headers]
    if framing is Framing.CHUNKED:
        lines.append(b"Transfer-Encoding: chunked\r\n")
    elif length is not None and status != 204 and status >= 200:
        # With no body (HEAD, 304) this tells the length that a GET would have had.
        lines.append(b"Content-Length: %d\r\n" % length)
    if connection is not None:
        lines.append(b"Connection: %b\r\n" % connection)
    lines.append(b"\r\n")
    return b"".join(lines)


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body. `data` is not empty: an empty one would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"
