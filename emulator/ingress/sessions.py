"""Sticky sessions of a Server: https://modal.com/docs/guide/sticky-sessions.

A session is bound to one container from its start to its end: it is terminated, it was idle for too long, or the
container has ended. Sessions are what a container of such a Server is loaded with: each counts as a request.
"""

from __future__ import annotations

import secrets
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from emulator.clock import Clock
    from emulator.ingress.base import ServerBackend, ServerTarget
    from emulator.ingress.tasks import Tasks

MOST_SESSIONS = 1000
"""Of one container, whatever its `max_concurrency`."""

QUEUE_SECONDS = 25 * 60.0
"""How long a start waits for room, as the client's `Server.sessions.start` has it."""


@dataclass(eq=False)
class Session:
    """One session. It takes requests until it has `ended`, and holds its place until the last of them is over."""

    session_id: str
    token: str = field(repr=False)
    target: ServerTarget
    idle_timeout: float
    idle_since: float
    in_flight: int = 0
    ended: bool = False
    place: AsyncExitStack = field(default_factory=AsyncExitStack)


class Sessions:
    """Those of one Server."""

    def __init__(self, backend: ServerBackend, *, clock: Clock, tasks: Tasks) -> None:
        self._backend = backend
        self._clock = clock
        self._tasks = tasks
        self._by_token: dict[str, Session] = {}
        self._by_key: dict[str, Session] = {}
        """Starts that may be repeated by a client that has seen no answer."""

    async def start(self, *, idle_timeout: float, key: str = "") -> Session | None:
        """A session on the container with most room; None when none had room for as long as a start waits."""
        known = self._by_key.get(key)
        if known is not None and not known.ended:
            return known
        target = await self._room()
        if target is None:
            return None
        session = Session(
            f"sd-{secrets.token_hex(8)}", secrets.token_urlsafe(24), target, idle_timeout, self._clock.monotonic()
        )
        await session.place.enter_async_context(target.track())
        self._by_token[session.token] = session
        if key:
            self._by_key[key] = session
        self._tasks.spawn(self._end_when_idle(session, key))
        return session

    def find(self, token: str) -> Session | None:
        """The session that takes requests with this token. One whose container is gone has ended."""
        session = self._by_token.get(token)
        if session is not None and not self._backend.serves(session.target.task_id):
            self.end(session)
            return None
        return session

    @asynccontextmanager
    async def used(self, session: Session) -> AsyncIterator[None]:
        """A request of the session is being served while the context is open."""
        session.in_flight += 1
        try:
            yield
        finally:
            session.in_flight -= 1
            session.idle_since = self._clock.monotonic()
            self._settle(session)

    def end(self, session: Session) -> None:
        """It takes no more requests; those that it has go on."""
        session.ended = True
        self._by_token.pop(session.token, None)
        self._settle(session)

    def _settle(self, session: Session) -> None:
        if session.ended and not session.in_flight:
            self._tasks.spawn(session.place.aclose())

    async def _end_when_idle(self, session: Session, key: str) -> None:
        while not session.ended:
            left = session.idle_since + session.idle_timeout - self._clock.monotonic()
            if session.in_flight:
                left = session.idle_timeout
            elif left <= 0:
                self.end(session)
                break
            await self._clock.sleep(left)
        self._by_key.pop(key, None)

    async def _room(self) -> ServerTarget | None:
        if (target := self._roomiest()) is not None:
            return target
        try:
            with self._backend.queued():
                async with self._clock.timeout(QUEUE_SECONDS):
                    while (target := self._roomiest()) is None:
                        await self._backend.changed()
        except TimeoutError:
            return None
        return target

    def _roomiest(self) -> ServerTarget | None:
        target = min(self._backend.targets(), key=lambda target: target.active, default=None)
        most = min(self._backend.max_concurrency or MOST_SESSIONS, MOST_SESSIONS)
        return target if target is not None and target.active < most else None
