"""The control plane's server for clients: gRPC over plain HTTP/2 on a port of 127.0.0.1."""

from __future__ import annotations

import socket

from emulator.protocol.dispatch import Caller, Dispatcher, Token
from emulator.protocol.grpc import GrpcServer


class ControlPlane:
    """Inputs are pickles, so whoever is served can run code: on loopback, always, and only those with the token."""

    def __init__(self, dispatcher: Dispatcher, token: Token) -> None:
        self._started = False
        self._server = GrpcServer(dispatcher.servable(Caller(), token))

    async def start(self, listener: socket.socket) -> None:
        await self._server.start(sock=listener)
        self._started = True

    async def close(self) -> None:
        if self._started:
            self._server.close()
            await self._server.wait_closed()


def bind(port: int) -> socket.socket:
    """A listening socket of 127.0.0.1; 0 takes any free port. Raises `OSError` when the port is taken."""
    # The protocol by number: asyncio turns Nagle off only for sockets that name it, and accepted ones inherit it.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(256)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener
