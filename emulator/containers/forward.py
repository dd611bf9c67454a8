"""Ways out of a container's private network: the machine's ports, one by one, and the internet, through a proxy.

Both listen on sockets that the container's init made in its network; connections are piped from the emulator's loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Mapping

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

_CHUNK = 65536
_REFUSED = b"HTTP/1.1 502 Bad Gateway\r\nConnection: close\r\nContent-Type: text/plain\r\n\r\n"
_BAD = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"


async def forward_port(listener: socket.socket, port: int) -> asyncio.Server:
    """Pipe what connects to `listener` to `port` of this machine's 127.0.0.1."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            other = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            writer.transport.abort()  # a reset: as near to "refused" as an accepted connection can come
            return
        await _pipe_both((reader, writer), other)

    return await asyncio.start_server(_closing(serve), sock=listener)


async def serve_proxy(listener: socket.socket, upstream: tuple[str, int] | None = None) -> asyncio.Server:
    """An HTTP proxy for requests by `CONNECT` (all of https) and by absolute address (http).

    `upstream`: the proxy by which this machine itself reaches the internet: every request goes there as it came.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
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
        await _pipe_both((reader, writer), other)

    return await asyncio.start_server(_closing(serve), sock=listener)


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


def _closing(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    return handle


async def _pipe_both(one: Streams, other: Streams) -> None:
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
