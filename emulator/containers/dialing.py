"""Connecting to a port of a container."""

from __future__ import annotations

import asyncio
import socket


async def connect(connection: socket.socket, port: int) -> socket.socket:
    """The socket, non-blocking and connected to `port` of its network's 127.0.0.1; closed when that fails."""
    connection.setblocking(False)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
    except BaseException:
        connection.close()
        raise
    return connection
