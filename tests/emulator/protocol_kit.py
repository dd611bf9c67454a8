"""Handlers behind a real gRPC server on a port of 127.0.0.1, and a stub that asks without a client's checks."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from grpclib import GRPCError, Status
from grpclib.client import Channel
from modal_proto.api_grpc import ModalClientStub

from emulator.protocol.dispatch import Caller, Dispatcher
from emulator.protocol.grpc import GrpcServer
from emulator.protocol.server import bind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable


@asynccontextmanager
async def served(*handlers: object) -> AsyncIterator[ModalClientStub]:
    """A stub for these handlers."""
    listener = bind(0)
    server = GrpcServer(Dispatcher(handlers, print).servable(Caller()))
    await server.start(sock=listener)
    channel = Channel("127.0.0.1", listener.getsockname()[1])
    try:
        yield ModalClientStub(channel)
    finally:
        channel.close()
        server.close()
        await server.wait_closed()


async def refused(call: Awaitable[object], status: Status) -> str:
    """The text with which a call is refused; fails when it is not, or for another reason."""
    with pytest.raises(GRPCError) as raised:
        await call
    assert raised.value.status is status, raised.value
    return raised.value.message or ""
