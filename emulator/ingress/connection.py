"""A client's connection: what comes is read and served, what goes waits for a client that is slow to read.

A client that closes only its sending side is taken as one that has left, as by most servers: from here the two look
the same, and waiting for the difference would keep an engine busy for nobody.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from emulator.ingress.exchange import BODY_BUFFER, Body, ClientLeft, Request, Tunnel, without_delay
from emulator.ingress.reading import RequestReader
from emulator.ingress.turns import Serve, Turns

if TYPE_CHECKING:
    from emulator.clock import Clock
    from emulator.ingress.http1 import BadRequest, RequestHead


class ClientConnection(asyncio.Protocol):
    """One connection of a client: the `Wire` of its requests and the `Taker` of what is read from it."""

    def __init__(self, serve: Serve, connections: set[ClientConnection], clock: Clock) -> None:
        self._connections = connections
        self._turns = Turns(serve, self, clock)
        self._tunnel: Tunnel | None = None
        self._upgraded = False
        self._early = b""
        self._holds: set[str] = set()
        self._write_paused: asyncio.Future[None] | None = None
        self._lost = False

    # The transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        without_delay(transport)
        client, server = (self._transport.get_extra_info(name)[:2] for name in ("peername", "sockname"))
        self._reader = RequestReader(self, client=client, server=server)
        self._connections.add(self)

    def data_received(self, data: bytes) -> None:
        if self._tunnel is not None:
            self._tunnel.data(data)
        elif self._upgraded:
            self._early += data
            if len(self._early) > BODY_BUFFER:
                self.hold("early")
        else:
            self._reader.feed(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._connections.discard(self)
        self._lost = True
        if self._tunnel is not None:
            self._tunnel.lost()
        self._turns.lost()
        if self._write_paused is not None and not self._write_paused.done():
            self._write_paused.set_exception(ClientLeft())
            self._write_paused.exception()  # nobody may be waiting: that is no error

    def pause_writing(self) -> None:
        self._write_paused = asyncio.get_running_loop().create_future()
        self._slow(True)

    def resume_writing(self) -> None:
        if self._write_paused is not None and not self._write_paused.done():
            self._write_paused.set_result(None)
        self._write_paused = None
        self._slow(False)

    def _slow(self, slow: bool) -> None:
        current = self._turns.current
        if self._tunnel is not None:
            (self._tunnel.pause_writing if slow else self._tunnel.resume_writing)()
        elif current is not None and current.on_pause is not None:
            current.on_pause(slow)

    # The reader's side

    def begin(self, head: RequestHead) -> Body:
        request = Request(self, head)
        self._turns.add(request)
        return request.body

    def refuse(self, refusal: BadRequest) -> None:
        self._turns.add(refusal)

    def broken(self) -> None:
        self._transport.abort()

    def upgraded(self, rest: bytes) -> None:
        self._upgraded = True
        self._early = rest

    # Wire: what requests and replies ask of the connection

    @property
    def takes_requests(self) -> bool:
        return not self._transport.is_closing() and self._tunnel is None

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    async def drain(self) -> None:
        if self._lost:
            raise ClientLeft
        if self._write_paused is not None:
            await asyncio.shield(self._write_paused)

    def hold(self, reason: str) -> None:
        self._holds.add(reason)
        self._transport.pause_reading()

    def release(self, reason: str) -> None:
        self._holds.discard(reason)
        if not self._holds and not self._transport.is_closing():
            self._transport.resume_reading()

    def release_all(self) -> None:
        self._holds.clear()
        self._transport.resume_reading()

    def close(self) -> None:
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    def take_over(self, tunnel: Tunnel) -> None:
        self._tunnel = tunnel
        early, self._early = self._early, b""
        if early:
            tunnel.data(early)
        self.release("early")

    # The owner's side

    def close_when_idle(self) -> None:
        """Close now, or once the request that is being served has been answered. A tunnel goes on."""
        if self._tunnel is None:
            self._turns.end()

    async def finished(self) -> None:
        """Wait until the request that is being served, if any, has let go of everything."""
        await self._turns.finished()
