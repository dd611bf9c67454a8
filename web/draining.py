"""The service's way out: nothing new is taken, what is under way gets a while to finish, the rest is told an error.

Whoever runs the server makes one `Draining`, hands it to the application (`Services(draining=…)`) and, when told to
stop, awaits `finish()` *while the server still listens*; then it stops the server, whose lifespan closes the
connections to the engines. Under uvicorn, `web.server.DrainingServer` does all of this:

    draining = Draining(clock=clock, grace=settings.web.drain_seconds)
    application = create_application(Services(settings=settings, engines=engines, clock=clock, draining=draining))
    DrainingServer(uvicorn.Config(application, …), draining).run()      # SIGTERM, SIGINT: drains, then returns

In a thread of somebody else's process, where signals are not the server's, `server.leave()` does what the signal would,
and joining the thread waits for the end. A Modal function has no such moment: the runtime takes no more inputs and lets
those under way end before the container leaves, and cancels them where the container must go at once.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from web.errors import ServerShuttingDown
from web.middleware import route_path

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Receive, Scope, Send

    from web.clock import Clock
    from web.interruption import Interruptible

LAST_WORDS_SECONDS = 2.0
"""For those who were interrupted to tell their callers."""
STILL_ANSWERED = frozenset({"/health", "/readiness"})
"""Whoever watches the process is answered to the end, and so is who scrapes it."""


class Draining:
    """Belongs to one event loop once it serves; made without one, so that a memory snapshot may hold it."""

    def __init__(self, *, clock: Clock, grace: float) -> None:
        """`grace`: seconds that what is under way may still take."""
        self.begun = False
        self.clock = clock
        self._grace = grace
        self._under_way: set[Interruptible] = set()
        self._watchers: set[Callable[[], object]] = set()
        self._emptied: asyncio.Future[None] | None = None
        self._hurried = False

    @property
    def under_way(self) -> int:
        """How many requests would be interrupted now."""
        return len(self._under_way)

    def add(self, request: Interruptible) -> None:
        """A request begins. Raises ServerShuttingDown when nothing new is taken any more."""
        if self.begun:
            raise ServerShuttingDown
        self._under_way.add(request)

    def discard(self, request: Interruptible) -> None:
        """It has ended."""
        self._under_way.discard(request)
        if not self._under_way and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)

    def on_begin(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Call `callback` on the loop when draining begins, at once if it has. For what is open without a request
        under way: an idle WebSocket closes then (1012), a busy one once its answer has ended. Returns what takes
        `callback` back."""
        if self.begun:
            callback()
        self._watchers.add(callback)
        return lambda: self._watchers.discard(callback)

    def begin(self) -> None:
        """Take nothing new from now on. To be called on the loop."""
        if not self.begun:
            self.begun = True
            for callback in list(self._watchers):
                callback()

    def hurry(self) -> None:
        """The grace is over already: what is under way is told so now. To be called on the loop."""
        self._hurried = True
        if self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)

    async def finish(self) -> None:
        """Return when nothing is under way any more, at most the grace and `LAST_WORDS_SECONDS` from now."""
        self.begin()
        with contextlib.suppress(TimeoutError):
            async with self.clock.timeout(self._grace):
                while self._under_way and not self._hurried:
                    await self._change()
        for request in list(self._under_way):
            request.interrupt(ServerShuttingDown())
        with contextlib.suppress(TimeoutError):
            async with self.clock.timeout(LAST_WORDS_SECONDS):
                while self._under_way:
                    await self._change()

    async def _change(self) -> None:
        self._emptied = asyncio.get_running_loop().create_future()
        await self._emptied


class Doors:
    """ASGI middleware: open until draining begins; then every request is refused, with the connection, but for the
    paths in `still_answered`. A WebSocket's handshake is refused too."""

    def __init__(self, app: ASGIApp, draining: Draining, *, still_answered: frozenset[str] = STILL_ANSWERED) -> None:
        self._app = app
        self._draining = draining
        self._still_answered = still_answered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._draining.begun and scope["type"] != "lifespan" and route_path(scope) not in self._still_answered:
            if scope["type"] == "http":
                raise ServerShuttingDown
            await send({"type": "websocket.close", "code": 1012, "reason": "the server is shutting down"})
            return
        await self._app(scope, receive, send)
