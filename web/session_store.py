"""Sessions in this process's memory: they end with it, and no other process sees them."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from web.session_errors import SessionConflict, TooManySessions
from web.sessions import Listed
from web.waiters import Waiters

if TYPE_CHECKING:
    from web.clock import Clock
    from web.sessions import Session, SessionKey


class SessionsInMemory:
    """For one event loop; made without one."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._kept: OrderedDict[SessionKey, Session] = OrderedDict()
        """The one that was saved last is last: they expire nearly in order."""
        self._counts: defaultdict[str, int] = defaultdict(int)
        self._waiters: Waiters[SessionKey] = Waiters()

    async def load(self, key: SessionKey) -> Session | None:
        self._forget_expired()
        session = self._kept.get(key)
        return None if session is None or self._expired(session) else session

    async def create(self, session: Session, *, most: int) -> None:
        if await self.load(session.key) is not None:
            raise SessionConflict
        self._drop(session.key)
        if self._counts[session.key.owner] >= most:
            raise TooManySessions(most, retry_after=self._next_end(session.key.owner))
        self._counts[session.key.owner] += 1
        self._keep(session)

    async def save(self, session: Session) -> None:
        before = await self.load(session.key)
        if before is None or (before.token, before.version + 1) != (session.token, session.version):
            raise SessionConflict
        self._keep(session)

    async def delete(self, key: SessionKey, *, only: Session | None = None) -> None:
        if only is None or self._is_kept(only):
            self._drop(key)

    async def listed(self, owner: str) -> list[Listed]:
        self._forget_expired()
        mine = (one for key, one in self._kept.items() if key.owner == owner and not self._expired(one))
        return [Listed.of(one) for one in mine][::-1]

    async def changed(self, session: Session) -> None:
        if self._is_kept(session):
            with self._waiters.waiting(session.key) as told:
                await told

    def _is_kept(self, session: Session) -> bool:
        now = self._kept.get(session.key)
        return now is not None and (now.token, now.version) == (session.token, session.version)

    def _keep(self, session: Session) -> None:
        self._kept[session.key] = replace(session, used_at=self._clock.time())
        self._kept.move_to_end(session.key)
        self._waiters.tell(session.key)

    def _drop(self, key: SessionKey) -> None:
        if self._kept.pop(key, None) is not None:
            self._counts[key.owner] -= 1
            if not self._counts[key.owner]:
                del self._counts[key.owner]
            self._waiters.tell(key)

    def _expired(self, session: Session) -> bool:
        return session.turn is None and session.expires_at <= self._clock.time()

    def _forget_expired(self) -> None:
        """Those that nobody asked for since: the oldest, as far as they have expired or are being answered."""
        gone = []
        for key, session in self._kept.items():
            if self._expired(session):
                gone.append(key)
            elif session.turn is None:
                break
        for key in gone:
            self._drop(key)

    def _next_end(self, owner: str) -> float:
        """Seconds until a session of this owner's expires, if nothing more is said in it."""
        ends = [session.expires_at for key, session in self._kept.items() if key.owner == owner]
        return max(0.0, min(ends) - self._clock.time())
