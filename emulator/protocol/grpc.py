"""A grpclib server that writes once for each turn of the loop.

grpclib writes the headers, the message and the trailers of a response one by one, each a system call; a streaming web
function makes thousands of small responses a second, and the calls were a quarter of what one costs.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from grpclib.config import Configuration
from grpclib.server import Server

from emulator.protocol.dispatch import StatusDetails

if TYPE_CHECKING:
    from grpclib.protocol import H2Protocol

    from emulator.protocol.dispatch import Servable

WINDOW = 64 << 20
CONFIG = Configuration(http2_connection_window_size=WINDOW, http2_stream_window_size=WINDOW)


@dataclass(eq=False)
class Traffic:
    """Counts what was sent and received, for who wants to know whether anything was."""

    count: int = 0


class GrpcServer(Server):
    """Serves one caller's routes."""

    def __init__(self, servable: Servable, traffic: Traffic | None = None) -> None:
        self._traffic = traffic or Traffic()
        super().__init__([], status_details_codec=StatusDetails(), config=CONFIG)
        self._mapping = servable.__mapping__()  # not a copy, which would have only what was asked for by now

    def _protocol_factory(self) -> H2Protocol:
        protocol = super()._protocol_factory()
        connection_made = protocol.connection_made

        def gathered(transport: asyncio.BaseTransport) -> None:
            connection_made(GatheredWrites(cast("asyncio.Transport", transport), self._traffic))

        data_received = protocol.data_received

        def counted(data: bytes) -> None:
            self._traffic.count += 1
            data_received(data)

        protocol.connection_made = gathered  # type: ignore[method-assign]
        protocol.data_received = counted  # type: ignore[method-assign]
        return protocol


class GatheredWrites(asyncio.Transport):
    """A transport whose writes of one turn of the loop go out together."""

    def __init__(self, transport: asyncio.Transport, traffic: Traffic) -> None:
        super().__init__()
        self._traffic = traffic
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._pending: list[Any] = []

    def write(self, data: Any) -> None:
        if not self._pending:
            self._loop.call_soon(self._flush)
        self._pending.append(data)

    def _flush(self) -> None:
        self._traffic.count += 1
        pending, self._pending = self._pending, []
        if pending and not self._transport.is_closing():
            self._transport.write(b"".join(pending))

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        self._pending.clear()
        self._transport.abort()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()
