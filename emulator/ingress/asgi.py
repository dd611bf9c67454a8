"""ASGI as Modal's container runtime speaks it: scopes as dictionaries, events as `api_pb2.Asgi`. Pure.

The runtime passes the scope to the application as it is, adds `state` itself and refuses a scope that has one. Its
`send` never fails after a disconnect, so `asgi.spec_version` is left out: from 2.4 on, an application may rely on that
failure and would miss that its client has gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from modal_proto import api_pb2

from emulator.ingress.auth import stripped
from emulator.ingress.http1 import forwarded, tokens

if TYPE_CHECKING:
    from collections.abc import Sequence

    from emulator.ingress.http1 import Headers, RequestHead

_NOT_FOR_THE_APPLICATION = frozenset(
    (b"x-forwarded-for", b"expect", b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding")
)
"""What concerns only the connection (Modal's runtime can not pass a `Transfer-Encoding` on to a `web_server`). `client`
says who asked, and Modal strips `X-Forwarded-For`."""


def scope(head: RequestHead) -> dict[str, Any]:
    """The ASGI scope of a request or of a WebSocket: https://asgi.readthedocs.io/en/latest/specs/www.html"""
    path, _, query = head.target.partition(b"?")
    common: dict[str, Any] = {
        "asgi": {"version": "3.0"},
        "http_version": head.http_version,
        "path": unquote_to_bytes(path).decode("utf-8", "replace"),
        "raw_path": path,
        "query_string": query,
        "root_path": unquote_to_bytes(head.prefix).decode("utf-8", "replace"),
        "headers": [
            (lowered, value)
            for name, value in stripped(head.headers)
            if (lowered := name.lower()) not in _NOT_FOR_THE_APPLICATION
        ],
        "client": head.client,
        "server": head.server,
    }
    if head.websocket:
        offered = [token.decode("latin-1") for token in subprotocols(head.headers)]
        return {"type": "websocket", "scheme": "ws", "subprotocols": offered, **common}
    return {"type": "http", "scheme": "http", "method": head.method.decode("latin-1").upper(), **common}


def subprotocols(headers: Headers) -> list[bytes]:
    """The WebSocket subprotocols that the client offers, in its order, as it spells them."""
    return [
        part.strip()
        for name, value in headers
        if name.lower() == b"sec-websocket-protocol"
        for part in value.split(b",")
        if part.strip()
    ]


def request_body(data: bytes, more: bool) -> api_pb2.Asgi:
    return api_pb2.Asgi(http_request=api_pb2.Asgi.HttpRequest(body=data, more_body=more))


def http_disconnect() -> api_pb2.Asgi:
    return api_pb2.Asgi(http_disconnect=api_pb2.Asgi.HttpDisconnect())


def websocket_connect() -> api_pb2.Asgi:
    return api_pb2.Asgi(websocket_connect=api_pb2.Asgi.WebsocketConnect())


def websocket_receive(data: str | bytes) -> api_pb2.Asgi:
    if isinstance(data, str):
        return api_pb2.Asgi(websocket_receive=api_pb2.Asgi.WebsocketReceive(text=data))
    return api_pb2.Asgi(websocket_receive=api_pb2.Asgi.WebsocketReceive(bytes=data))


def websocket_disconnect(code: int) -> api_pb2.Asgi:
    return api_pb2.Asgi(websocket_disconnect=api_pb2.Asgi.WebsocketDisconnect(code=code))


def response_headers(flat: Sequence[bytes]) -> tuple[Headers, int | None]:
    """An application's response headers, free of framing, and the length that it announces.

    Raises `ValueError` for a header that would break out of its line or a length that is none.
    """
    headers = [(bytes(name), bytes(value)) for name, value in zip(flat[::2], flat[1::2], strict=True)]
    for name, value in headers:
        if not name or any(byte in b"\r\n\0: " for byte in name) or any(byte in b"\r\n\0" for byte in value):
            raise ValueError(f"invalid response header {name!r}: {value!r}")
    lengths = set(tokens(headers, b"content-length"))
    if len(lengths) > 1 or not all(length.isdigit() for length in lengths):
        raise ValueError(f"invalid Content-Length in the response: {lengths}")
    return forwarded(headers), int(lengths.pop()) if lengths else None
