"""How a request has to come: how large its head may be, and how slowly it may be sent. Pure.

uvicorn bounds neither: a sender of a byte a minute, or of a head without end, would hold its connection, and memory,
for as long as it likes.
"""

from __future__ import annotations

from http import HTTPStatus

from web.dialects.errors import error_body
from web.errors import INVALID, InvalidRequest, ServiceError, to_wire

MOST_HEAD_BYTES = 64 * 1024
"""Of a request's line and headers: twice what proxies let through."""
SLOWEST = 16 * 1024
"""Bytes a second at which a body may come for as long as it takes; what comes slower has `receive_timeout`."""


class HeadersTooLarge(ServiceError):
    status, type, code = 431, INVALID, "headers_too_large"

    def __init__(self) -> None:
        super().__init__(f"The request's line and headers are larger than {MOST_HEAD_BYTES} bytes.")


class RequestTooSlow(ServiceError):
    status, type, code = 408, "timeout", "request_timeout"

    def __init__(self) -> None:
        super().__init__("The request did not come in time.")


def seconds_left(*, waited: float, received: int, timeout: float) -> float:
    """How long a request that began `waited` seconds ago, and of which `received` bytes have come since, may still
    take; zero or less: it is too slow."""
    return timeout + received / SLOWEST - waited


def refuse_odd_hosts(headers: list[tuple[bytes, bytes]]) -> None:
    """Raise InvalidRequest unless there is one `Host`, as HTTP/1.1 wants it (RFC 9112, 3.2): where there are two,
    whoever stands between may have gone by the other one."""
    if sum(name == b"host" for name, _ in headers) != 1:
        raise InvalidRequest("The request must have one 'Host' header.", code="invalid_http")


def refusal(error: ServiceError, *, request_id: str) -> bytes:
    """A whole HTTP response that tells the error and closes the connection: for what no application answers."""
    wire = to_wire(error)
    body = error_body("/", wire, request_id=request_id)
    lines = [
        f"HTTP/1.1 {wire.status} {HTTPStatus(wire.status).phrase}", f"x-request-id: {request_id}", "connection: close",
        "content-type: application/json", f"content-length: {len(body)}",
        *(f"{name}: {value}" for name, value in wire.headers.items()),
    ]  # fmt: skip
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
