"""A connection's requests, served one after the other."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from emulator.ingress.exchange import ClientLeft, Request, Wire
from emulator.ingress.http1 import BadRequest, RequestHead

if TYPE_CHECKING:
    from emulator.clock import Clock

log = logging.getLogger(__name__)

MAX_DISCARDED = 4 * 1024 * 1024
"""Bytes of an unread request body that are read and dropped so that an early answer reaches the client."""

DISCARD_SECONDS = 5.0
"""How long that goes on, for a client that neither ends its body nor leaves."""

MAX_PIPELINED = 16
"""Requests that wait on a connection before reading stops; while it reads, it notices when the client leaves."""

Serve = Callable[[Request], Awaitable[None]]


class Turns:
    """The requests of one connection, in their order. `serve` answers each; the wire is closed after the last."""

    def __init__(self, serve: Serve, wire: Wire, clock: Clock) -> None:
        self.current: Request | None = None
        """The one that is being served."""
        self._serve = serve
        self._wire = wire
        self._clock = clock
        self._queue: deque[Request | BadRequest] = deque()
        self._task: asyncio.Task[None] | None = None
        self._discarding: asyncio.Task[None] | None = None
        self._held = False
        self._ending = False

    def add(self, item: Request | BadRequest) -> None:
        """Serve a request, or answer what was refused, in its turn."""
        if self.current is None and not self._queue and isinstance(item, Request):
            self._start(item)
            return
        self._queue.append(item)
        if len(self._queue) >= MAX_PIPELINED:
            self._held = True
            self._wire.hold("queue")
        if self.current is None:
            self._next()

    def end(self) -> None:
        """Close the wire now, or once the request that is being served has been answered."""
        self._ending = True
        if self.current is None:
            self._wire.close()

    def lost(self) -> None:
        """The client has gone."""
        self._queue.clear()
        if self._discarding is not None:
            self._discarding.cancel()
        if self.current is not None:
            self.current.leave()

    async def finished(self) -> None:
        """Wait until the request that is being served, if any, has let go of everything."""
        if self._task is not None:
            await asyncio.wait([self._task])

    def _start(self, request: Request) -> None:
        self.current = request
        self._task = asyncio.get_running_loop().create_task(self._run(request))

    def _next(self) -> None:
        if self._held and len(self._queue) < MAX_PIPELINED:
            self._held = False
            self._wire.release("queue")
        if not self._queue:
            if self._ending:
                self._wire.close()
            return
        item = self._queue.popleft()
        if isinstance(item, Request):
            self._start(item)
            return
        head = RequestHead(b"GET", b"/", [], "1.1", False, False, 0, ("", 0), ("", 0))
        Request(self._wire, head).reply.text(item.status, f"modal-http: {item.text}")
        self._wire.close()

    async def _run(self, request: Request) -> None:
        try:
            await self._serve(request)
            if not request.reply.finished and not request.left:
                raise RuntimeError("a request was left without a complete reply")
            if self._queue:
                await self._wire.drain()
        except ClientLeft:
            pass
        except Exception:
            log.exception("serving %r failed", request.head.target)
            if request.reply.started:
                request.reply.cut()
            else:
                request.reply.text(500, "modal-http: internal error")
        finally:
            self.current = self._task = None
            self._after(request)

    def _after(self, request: Request) -> None:
        if not self._wire.takes_requests:
            return
        if not request.body.ended:
            self._discard(request)
        elif request.reply.keep_alive and not (self._ending and not self._queue):
            self._next()
        else:
            self._wire.close()

    def _discard(self, request: Request) -> None:
        """Read what the client still sends, so that closing does not destroy the answer on its way, then close."""
        discarded = 0

        def drop(data: bytes, more: bool) -> None:
            nonlocal discarded
            discarded += len(data)
            if not more or discarded > MAX_DISCARDED:
                self._wire.close()

        self._wire.release_all()
        request.body.pipe(drop)
        self._discarding = asyncio.get_running_loop().create_task(self._stop_discarding())

    async def _stop_discarding(self) -> None:
        await self._clock.outside.sleep(DISCARD_SECONDS)
        self._wire.abort()


def expects_continue(request: Request) -> bool:
    """Whether the client waits for `100 Continue` before it sends the body."""
    head = request.head
    return not request.body.ended and head.http_version == "1.1" and head.first(b"expect") is not None
