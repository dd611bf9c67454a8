"""The application on a port, under uvicorn: the same on this machine and in a Modal Server's container."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import TYPE_CHECKING

import uvicorn
import uvloop

from functions.garbage import spare_the_application
from functions.http_protocol import HttpProtocol
from web.server import DrainingServer

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from web.draining import Draining

BACKLOG = 2048
KEEP_ALIVE_SECONDS = 75
"""Longer than clients and proxies keep a connection for: it is they who close it, and never under a request."""


class ListenError(Exception):
    """It cannot listen there. The message is one line."""


def listen(host: str, port: int) -> socket.socket:
    """A bound socket, not listening yet; port 0 is any free one. Raises ListenError."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        # The protocol by number: asyncio turns Nagle off only for sockets that name it, and accepted ones inherit it.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except OSError as error:
        raise ListenError(f"cannot listen on {host!r}: {error.strerror}") from None
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise ListenError(f"cannot listen on {host} port {port}: {error.strerror}") from None
    return listener


def url_of(listener: socket.socket) -> str:
    """Where a client on this machine reaches it."""
    host, port = listener.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:
        host = "::1" if ":" in host else "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Listening(DrainingServer):
    """A DrainingServer with the socket that it listens on: bound when it is made. Raises ListenError then."""

    def __init__(
        self, application: ASGIApp, draining: Draining, *, host: str, port: int, write_timeout: float | None = None,
        receive_timeout: float | None = None,
    ) -> None:  # fmt: skip
        config = uvicorn.Config(
            application, loop="none", http=HttpProtocol, lifespan="on", interface="asgi3",
            log_config=None, log_level="warning", access_log=False, proxy_headers=False, server_header=False,
            backlog=BACKLOG, timeout_keep_alive=KEEP_ALIVE_SECONDS,
            ws_per_message_deflate=False,  # a compressor a connection, for pieces too small to shrink
        )  # fmt: skip
        super().__init__(config, draining, write_timeout=write_timeout, receive_timeout=receive_timeout)
        self.listener = listen(host, port)
        self.url = url_of(self.listener)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        spare_the_application()

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until told to leave, in an event loop of its own."""
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self.serve(sockets))

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until told to leave, and drain."""
        await super().serve(sockets or [self.listener])
