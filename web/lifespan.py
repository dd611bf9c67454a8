"""ASGI's lifespan: what is done before the first request and after the last."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractAsyncContextManager

    from starlette.types import ASGIApp, Receive, Scope, Send

log = logging.getLogger(__name__)


class Lifespan:
    """Serves `app` inside the context that `around` makes. `state`: what the server, and each request, finds in the
    state of its scope."""

    def __init__(
        self, app: ASGIApp, around: Callable[[], AbstractAsyncContextManager[object]], *, state: Mapping[str, object]
    ) -> None:
        self._app = app
        self._around = around
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        await receive()  # lifespan.startup
        scope.get("state", {}).update(self._state)
        phase = "startup"
        try:
            async with self._around():
                await send({"type": "lifespan.startup.complete"})
                phase = "shutdown"
                await receive()  # lifespan.shutdown
        except Exception as error:
            log.exception("the %s failed", phase)
            await send({"type": f"lifespan.{phase}.failed", "message": type(error).__name__})
            raise
        await send({"type": "lifespan.shutdown.complete"})
