"""Requests to Modal Servers: a reverse proxy that chooses a container and then only moves bytes."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from typing import TYPE_CHECKING

from emulator.ingress.auth import stripped
from emulator.ingress.balance import Full, choose
from emulator.ingress.http1 import forwarded, render_request
from emulator.ingress.pool import Pool
from emulator.ingress.sessioned import Sessioned, is_control
from emulator.ingress.sessions import Sessions
from emulator.ingress.upstream import Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from emulator.clock import Clock
    from emulator.ingress.base import ServerBackend, ServerTarget
    from emulator.ingress.exchange import Request
    from emulator.ingress.http1 import RequestHead
    from emulator.ingress.moving import Moving
    from emulator.ingress.tasks import Tasks

AFFINITY = (b"modal-routing-affinity-key", b"modal-session-id")
"""What requests share that are to reach the same container: the newer name first."""

NO_CONTAINER = "modal-http: no container is running for this server"
TOO_MANY = "modal-http: too many concurrent requests for this server"
BAD_GATEWAY = "modal-http: bad gateway"

LEFT = 499
"""The status of a request whose caller left before it was answered, as nginx has it."""

_SAFE = (b"GET", b"HEAD", b"OPTIONS")


class ServerSite:
    """One Server at its addresses."""

    def __init__(
        self,
        *,
        backend: ServerBackend,
        clock: Clock,
        tasks: Tasks,
        moving: Moving,
        sessions: Sessions | None = None,
    ) -> None:
        self.sessions = sessions or Sessions(backend, clock=clock, tasks=tasks)
        """Handed on when a redeploy swaps the backend."""
        self._backend = backend
        self._moving = moving
        self._clock = clock
        self._pool = Pool(clock=clock)
        self._sessioned = Sessioned(self.sessions, proxy=self._proxy)

    def close(self) -> None:
        """Let go of idle connections; what is being served goes on."""
        self._pool.close()

    async def serve(self, request: Request) -> None:
        """Answer one request."""
        if self._backend.sessioned:
            await self._sessioned.serve(request)
            return
        tried: set[str] = set()
        while True:
            targets = [target for target in self._backend.targets() if target.task_id not in tried]
            target = self._choose(request, targets, retrying=bool(tried))
            if target is None:
                return
            async with target.track():
                if await self._proxy(request, target):
                    return
            tried.add(target.task_id)

    def guards(self, request: Request) -> bool:
        """Whether it lets requests pass by its own rules: by their session."""
        return self._backend.sessioned and not is_control(request.head)

    def _choose(self, request: Request, targets: Sequence[ServerTarget], *, retrying: bool) -> ServerTarget | None:
        """The container for a request, or None when it has been refused."""
        key = next(filter(None, map(request.head.first, AFFINITY)), None)
        choice = choose(targets, session=key, max_concurrency=self._backend.max_concurrency)
        if choice is None and retrying:
            request.reply.text(502, f"{BAD_GATEWAY}: the server refused the connection")
        elif choice is None:
            self._backend.demand()
            request.reply.text(503, NO_CONTAINER)
        elif isinstance(choice, Full):
            request.reply.text(429, TOO_MANY)
        else:
            return choice
        return None

    async def _proxy(self, request: Request, target: ServerTarget) -> bool:
        """Serve a request by `target`. False: it could not be reached, and nothing of the request was used."""
        at, began = self._clock.time(), self._clock.monotonic()
        # A WebSocket may stay open for ever.
        with nullcontext() if request.head.websocket else self._moving.one("a request that a Server answers"):
            reached = await self._exchange(request, target)
        if reached:
            self._backend.handled(
                target.task_id,
                route=request.head.target.partition(b"?")[0].decode("latin-1"),
                at=at,
                seconds=self._clock.monotonic() - began,
                status=request.reply.status or LEFT,
            )
        return reached

    async def _exchange(self, request: Request, target: ServerTarget) -> bool:
        head = upstream_head(request.head)
        fresh = False
        while not request.left:
            try:
                upstream, reused = await self._pool.acquire(target, fresh=fresh)
            except OSError:
                return False
            if request.left:
                self._pool.release(upstream)
                break
            done = upstream.begin(request, head)
            request.on_left(upstream.abandon)
            try:
                outcome = await done
            except asyncio.CancelledError:
                upstream.abandon()
                raise
            if outcome is Outcome.COMPLETE:
                self._pool.release(upstream)
            elif outcome in (Outcome.UNANSWERED, Outcome.INVALID):
                if reused and not upstream.answered and _repeatable(request):
                    # The server closed a kept connection just as the request went out: that says nothing about it.
                    fresh = True
                    continue
                request.reply.text(502, f"{BAD_GATEWAY}: {outcome.value}")
            break
        return True


def upstream_head(head: RequestHead) -> bytes:
    """The head of a request as the server in the container gets it: without credentials, with who asked."""
    headers = forwarded(stripped(head.headers), without=(b"x-forwarded-for",))
    headers.append((b"X-Forwarded-For", head.client[0].encode()))
    target = head.target
    if head.prefix:
        headers.append((b"X-Forwarded-Prefix", head.prefix))
        target = target[len(head.prefix) :]
        if not target.startswith(b"/"):
            target = b"/" + target
    return render_request(head, target=target, headers=headers)


def _repeatable(request: Request) -> bool:
    return request.head.method in _SAFE and request.head.length == 0
