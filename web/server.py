"""The application under uvicorn, on a port of its own: the form in which it drains before it ends."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import uvicorn

if TYPE_CHECKING:
    import socket
    from types import FrameType

    from web.clock import Clock, Timer
    from web.draining import Draining

PATIENCE = 1.5
"""How much longer than `write_timeout` a connection lives whose reader has stopped: so that it is the request in it
that is ended first, and counted as what it is."""
CONNECTIONS_CLOSE_SECONDS = 3
"""For the connections to close once everything was answered; those whose readers have stopped are then cut."""


class _Impatient(asyncio.Protocol):
    """Before one of uvicorn's protocols: cuts a connection that has been full for `patience` seconds."""

    clock: Clock
    patience: float
    transport: asyncio.Transport

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._cut: Timer | None = None

    def pause_writing(self) -> None:
        super().pause_writing()
        self._cut = self.clock.call_later(self.patience, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._forget()

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._forget()

    def _forget(self) -> None:
        if self._cut is not None:
            self._cut.cancel()
            self._cut = None


class DrainingServer(uvicorn.Server):
    """`run()` (or `await serve()`) returns once it was told to stop and has drained. A second signal does not wait for
    answers, which end with an error; a third one waits for nothing.

    Unlike uvicorn's own, it does not end the process by the signal that it was sent: a service that drained exits 0.
    """

    def __init__(
        self, config: uvicorn.Config, draining: Draining, *, write_timeout: float | None = None,
        receive_timeout: float | None = None,
    ) -> None:  # fmt: skip
        """`write_timeout`: seconds after which, and half as long again, a connection is cut that takes nothing of what
        is to be sent; None: never. uvicorn itself waits for ever, even when it closes one. `receive_timeout`: how long
        a request may take to come (`web.receiving`), where the configured protocol minds that; None: as that has it."""
        if config.timeout_graceful_shutdown is None:
            config.timeout_graceful_shutdown = CONNECTIONS_CLOSE_SECONDS
        super().__init__(config)
        self._draining = draining
        self._write_timeout = write_timeout
        self._receive_timeout = receive_timeout
        self._finishing: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._hurried = False

    def leave(self) -> None:
        """What SIGTERM does. May be called from any thread."""
        self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 (uvicorn's signature)
        if self.should_exit:
            if self._hurried or self._loop is None:
                self.force_exit = True
                if self._finishing is not None and self._loop is not None:
                    self._loop.call_soon_threadsafe(self._finishing.cancel)
            else:
                self._hurried = True
                self._loop.call_soon_threadsafe(self._draining.hurry)
        self.leave()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if self._write_timeout is not None:
            config = self.config
            more: dict[str, Any] = {"clock": self._draining.clock, "patience": self._write_timeout * PATIENCE}
            if self._receive_timeout is not None:
                more["receive_timeout"] = self._receive_timeout
            config.http_protocol_class = type("Impatient", (_Impatient, config.http_protocol_class), more)
        await super().startup(sockets)

    async def main_loop(self) -> None:
        self._loop = asyncio.get_running_loop()
        await super().main_loop()
        self._finishing = asyncio.create_task(self._draining.finish(), name="drain")
        with contextlib.suppress(asyncio.CancelledError):
            await self._finishing
