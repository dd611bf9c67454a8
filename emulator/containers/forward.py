"""Ways out of a container's private network: the machine's ports, one by one, and the internet, through a proxy.

The container's init listens for both in its network and hands over who connects; the emulator's loop pipes.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

_CHUNK = 65536
_REFUSED = b"HTTP/1.1 502 Bad Gateway\r\nConnection: close\r\nContent-Type: text/plain\r\n\r\n"
_BAD = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"


async def serve_way_out(connection: socket.socket, port: int, upstream: tuple[str, int] | None) -> None:
    """Pipe a connection that a container has made to `port` of this machine's 127.0.0.1, or (0) be its proxy."""
    reader, writer = await asyncio.open_connection(sock=connection)
    try:
        with contextlib.suppress(OSError):
            await (_serve_port((reader, writer), port) if port else _serve_proxy((reader, writer), upstream))
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _serve_port(inside: Streams, port: int) -> None:
    try:
        other = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        inside[1].transport.abort()  # a reset: as near to "refused" as an accepted connection can come
        return
    await pipe_both(inside, other)


async def _serve_proxy(inside: Streams, upstream: tuple[str, int] | None) -> None:
    """An HTTP proxy for requests by `CONNECT` (all of https) and by absolute address (http).

    `upstream`: the proxy by which this machine itself reaches the internet: every request goes there as it came.
    """
    reader, writer = inside
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        host, port, forwarded = (*upstream, head) if upstream else parse_request(head)
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
        writer.write(_BAD)
        return
    try:
        other = await asyncio.open_connection(host, port)
    except OSError as error:
        writer.write(_REFUSED + f"{host}:{port}: {error}\n".encode())
        return
    if forwarded:
        other[1].write(forwarded)
    else:
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
    await pipe_both(inside, other)


def machines_proxy(machine: Mapping[str, str]) -> tuple[str, int] | None:
    """(host, port) of the http proxy that this machine's environment names."""
    for name in ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        if (url := urlsplit(machine.get(name, ""))).scheme == "http" and url.hostname:
            return url.hostname, url.port or 80
    return None


def parse_request(head: bytes) -> tuple[str, int, bytes]:
    """(host, port, what to send there first) of a request to a proxy. Raises `ValueError`.

    A plain request goes on in origin form and asks for the connection to end with it, since the next one on it might be
    for somebody else.
    """
    request, *headers = head.decode("latin-1").split("\r\n")
    method, target, version = request.split(" ")
    url = urlsplit(f"//{target}" if method == "CONNECT" else target)
    if url.hostname is None:
        raise ValueError(f"no host in {target!r}")
    if method == "CONNECT":
        return url.hostname, url.port or 443, b""
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    dropped = ("connection:", "proxy-connection:", "proxy-authorization:")
    kept = [line for line in headers if line and not line.lower().startswith(dropped)]
    lines = [f"{method} {path} {version}", *kept, "Connection: close", "", ""]
    return url.hostname, url.port or 80, "\r\n".join(lines).encode("latin-1")


async def pipe_both(one: Streams, other: Streams) -> None:
    """Pipe until both sides have ended. A side that breaks off breaks the other."""
    pipes = [asyncio.ensure_future(_pipe(one[0], other[1])), asyncio.ensure_future(_pipe(other[0], one[1]))]
    try:
        await asyncio.gather(*pipes)
    except OSError:
        one[1].transport.abort()
        other[1].transport.abort()
    finally:
        for pipe in pipes:
            pipe.cancel()
        other[1].close()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_CHUNK):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
