"""Parts of the application that are made when they are first asked for, so that a container which was started for one
request loads what that needs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from web.record import apart

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Receive, Scope, Send


class Lazily:
    """An application that `make` makes: by a thread, while the loop serves others. Who leaves meanwhile ends nothing.
    What `make` raises, everybody is told who waited for it; the next one has it tried again."""

    def __init__(self, make: Callable[[], ASGIApp]) -> None:
        self._make = make
        self._app: ASGIApp | None = None
        self._making: asyncio.Task[ASGIApp] | None = None

    def make(self) -> None:
        """Make it now, as before a memory snapshot."""
        if self._app is None:
            self._app = self._make()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app or await self._made()
        await app(scope, receive, send)

    async def _made(self) -> ASGIApp:
        if self._making is None:
            # Apart from this request: what is made serves all.
            self._making = asyncio.create_task(asyncio.to_thread(self._make), name="making", context=apart())
            self._making.add_done_callback(self._keep)
        return await asyncio.shield(self._making)

    def _keep(self, making: asyncio.Task[ASGIApp]) -> None:
        self._making = None
        if not making.cancelled() and making.exception() is None:
            self._app = making.result()
