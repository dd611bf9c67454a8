"""The application under uvicorn, on a port of its own: the form in which it drains before it ends."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import uvicorn

if TYPE_CHECKING:
    from types import FrameType

    from web.draining import Draining

CONNECTIONS_CLOSE_SECONDS = 3
"""For the connections to close once everything was answered; those whose readers have stopped are then cut."""


class DrainingServer(uvicorn.Server):
    """`run()` (or `await serve()`) returns once it was told to stop and has drained; a second signal does not wait.

    Unlike uvicorn's own, it does not end the process by the signal that it was sent: a service that drained exits 0.
    """

    def __init__(self, config: uvicorn.Config, draining: Draining) -> None:
        if config.timeout_graceful_shutdown is None:
            config.timeout_graceful_shutdown = CONNECTIONS_CLOSE_SECONDS
        super().__init__(config)
        self._draining = draining
        self._finishing: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def leave(self) -> None:
        """What SIGTERM does. May be called from any thread."""
        self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 (uvicorn's signature)
        if self.should_exit:
            self.force_exit = True
            if self._finishing is not None and self._loop is not None:
                self._loop.call_soon_threadsafe(self._finishing.cancel)
        self.leave()

    async def main_loop(self) -> None:
        self._loop = asyncio.get_running_loop()
        await super().main_loop()
        self._finishing = asyncio.create_task(self._draining.finish(), name="drain")
        with contextlib.suppress(asyncio.CancelledError):
            await self._finishing
