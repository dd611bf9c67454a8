"""Turns of sessions: each claimed, asked, answered and kept, one at a time, whatever happens on the way."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from web.dialects.overheard import Overheard
from web.errors import ModelNotFound, ServiceError
from web.interruption import Interruptible
from web.session_errors import (
    SessionBusy,
    SessionConflict,
    SessionDeleted,
    SessionExists,
    SessionNotFound,
    StoreUnavailable,
)
from web.sessions import Session, SessionKey, context, fewer, fitting

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

    from infra.settings import Model, Settings
    from web.clock import Clock
    from web.dialects.request import GenerationRequest
    from web.dialects.service import Asked
    from web.sessions import Listed, SessionStore

log = logging.getLogger(__name__)

LOOK_AGAIN = 1.0
"""Seconds until a store that could not be reached is asked again what became of a turn."""

TOO_LONG = frozenset({"context_length_exceeded", "string_above_max_length"})
"""The codes of what is refused for its length: by the engine, by the guard of prompts."""


class Conversations:
    """What callers do with sessions, on whatever keeps them."""

    def __init__(self, store: SessionStore, *, settings: Settings, clock: Clock) -> None:
        self._store = store
        self._settings = settings
        self._clock = clock
        self._writes: set[asyncio.Task[None]] = set()

    async def listed(self, owner: str) -> Sequence[Listed]:
        """The owner's sessions, the one used last first."""
        return await self._store.listed(owner)

    async def load(self, key: SessionKey) -> Session:
        """Raises SessionNotFound."""
        session = await self._store.load(key)
        if session is None:
            raise SessionNotFound(key.id)
        return session

    async def create(self, key: SessionKey, *, title: str, system: str | None) -> Session:
        """A session in which nothing was said yet. Raises SessionExists, TooManySessions."""
        prompt = self._settings.sessions.system_prompt if system is None else system
        session = Session(
            key=key, title=title, system=prompt, created_at=self._clock.time(), expires_at=self._end()
        )  # fmt: skip
        return await self._keep_new(session)

    async def fork(self, key: SessionKey, id: str, *, messages: int) -> Session:  # noqa: A002
        """A session of its own, named `id`, that begins with the first `messages` of this one. Raises SessionNotFound,
        SessionExists, TooManySessions."""
        session = await self.load(key)
        return await self._keep_new(
            session.forked(id, messages=messages, now=self._clock.time(), expires_at=self._end())
        )

    async def change(self, key: SessionKey, how: Callable[[Session], Session]) -> Session:
        """Put `how(session)` in the place of a session on which no turn is under way. Raises SessionNotFound,
        SessionBusy."""
        patience = self._patience()
        while (session := await self._free(key, patience)) is not None:
            changed = how(session)
            with contextlib.suppress(SessionConflict):
                await self._store.save(changed)
                return replace(changed, used_at=self._clock.time())
        raise SessionNotFound(key.id)

    async def history(self, key: SessionKey) -> list[dict[str, object]]:
        """Empty for a session that is not there."""
        session = await self._store.load(key)
        return [] if session is None else session.history()

    async def delete(self, key: SessionKey) -> None:
        """Forget a session. An answer that is on its way stops, and nothing of it is kept."""
        await self._store.delete(key)

    async def roll_back(self, key: SessionKey, amount: int) -> None:
        """Take the last messages away, but never the system prompt; nothing happens to a session that is not there.
        Raises SessionBusy."""
        with contextlib.suppress(SessionNotFound):
            await self.change(key, lambda session: session.rolled_back(amount, expires_at=self._end()))

    async def speak(
        self, key: SessionKey, asked: Asked, respond: Callable[[GenerationRequest, Turn], Awaitable[None]]
    ) -> None:
        """One turn. `respond` streams the answer to the request that it is given (as often as the request turns out to
        be too long for the model, or the session was somebody else's by then, before anything was sent), with
        `turn.heard` in between. It awaits `turn.claimed()` before the first bytes leave (the engine reads the question
        while that is written), and `turn.settle()` before the last ones do. Raises what `respond` raises, SessionBusy,
        TooManySessions, ModelNotFound; and SessionDeleted, also when the answer has begun."""
        model = self._settings.models.find(asked.request.model)
        if model is None:
            raise ModelNotFound(asked.request.model)
        patience = self._patience()
        while True:
            turn = await self._claim(key, asked, model, patience)
            try:
                await self._answer(turn, asked, model, respond)
            except SessionConflict:
                continue  # somebody else came first
            return

    async def _answer(
        self, turn: Turn, asked: Asked, model: Model, respond: Callable[[GenerationRequest, Turn], Awaitable[None]]
    ) -> None:
        """Raises SessionConflict when the turn was not claimed: then nothing was told."""
        watch: asyncio.Task[None] | None = None
        try:
            with Interruptible() as answering:
                watch = asyncio.create_task(self._watch(turn, answering), name="session")
                await self._respond(turn, asked, model, respond)
                await turn.claimed()
        except Exception:
            turn.heard.failed = True
            raise
        finally:
            if watch is not None:
                watch.cancel()
            with contextlib.suppress(Exception):  # its callers know already, or have left
                await turn.settle()

    async def close(self) -> None:
        """Wait for what is still to be written."""
        while self._writes:
            await asyncio.wait(self._writes)

    def write(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do it, whatever becomes of who asked for it."""
        task = asyncio.create_task(work, name="session write")
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)
        return task

    async def keep(self, turn: Turn) -> None:
        """Write down how a turn has ended. Raises SessionDeleted, and what the claim raised."""
        session, heard, unclaimed = turn.session, turn.heard, not turn.claim.done()
        try:
            await turn.claim
        except StoreUnavailable:  # the question may be there all the same; not awaited, for its caller is told now
            self.write(self._forget(turn))
            raise
        try:
            # Who has left before his question was written has not asked.
            if heard.complete or heard.text or not (heard.failed or unclaimed):
                ended = session.answered(
                    heard.text, interrupted=not heard.complete, usage=heard.usage, sent=turn.shown,
                    most=self._settings.sessions.history_messages, expires_at=self._end(),
                )  # fmt: skip
                await self._store.save(ended)
            else:
                await self._take_back(turn.before, session)
        except SessionConflict:
            raise SessionDeleted from None
        except Exception:
            log.exception("an answer could not be kept in its session")
            raise

    async def _claim(self, key: SessionKey, asked: Asked, model: Model, patience: Patience) -> Turn:
        """The turn, with its question on the way into the store, which makes the session ours."""
        before = await self._free(key, patience)
        blank = Session(
            key=key, system=self._settings.sessions.system_prompt, created_at=self._clock.time(), expires_at=0.0
        )  # fmt: skip
        session = (before or blank).asked(
            asked.prompt, turn=secrets.token_hex(16), system=asked.system_prompt, model=model.id,
            expires_at=self._end(), images=asked.images,
        )  # fmt: skip
        return Turn(self, before, session, claim=self.write(self._put(before, session)))

    async def _put(self, before: Session | None, session: Session) -> None:
        if before is None:
            await self._store.create(session, most=self._settings.limits.max_sessions)
        else:
            await self._store.save(session)

    async def _keep_new(self, session: Session) -> Session:
        try:
            await self._store.create(session, most=self._settings.limits.max_sessions)
        except SessionConflict:
            raise SessionExists(session.key.id) from None
        return replace(session, used_at=self._clock.time())

    async def _take_back(self, before: Session | None, session: Session) -> None:
        """As if the question had not been put."""
        if before is None:
            await self._store.delete(session.key, only=session)
        else:
            await self._store.save(session.unasked(before))

    async def _forget(self, turn: Turn) -> None:
        """Take back a question of which nobody knows whether it was kept. Where that fails as well, its lease ends."""
        with contextlib.suppress(SessionConflict, StoreUnavailable):
            await self._take_back(turn.before, turn.session)

    async def _free(self, key: SessionKey, patience: Patience) -> Session | None:
        """The session once no turn is under way on it. Raises SessionBusy when that takes too long."""
        while (session := await self._store.load(key)) is not None and session.turn is not None:
            try:
                async with self._clock.timeout(patience.left()):
                    await self._store.changed(session)
            except TimeoutError:
                raise SessionBusy(patience.spent()) from None
        return session

    def _patience(self) -> Patience:
        return Patience(self._clock, self._settings.sessions.turn_wait_seconds)

    async def _respond(
        self, turn: Turn, asked: Asked, model: Model, respond: Callable[[GenerationRequest, Turn], Awaitable[None]]
    ) -> None:
        fields = asked.request.fields
        answer = min(fields.get("max_tokens", 0), self._settings.limits.max_response_tokens)
        turn.shown = fitting(
            turn.session,
            most_messages=self._settings.sessions.context_messages, most_tokens=model.context_length - answer,
        )  # fmt: skip
        before = turn.before.system if turn.before else None
        new_prompt = asked.system_prompt is not None and asked.system_prompt != before
        while True:
            messages = context(turn.session, turn.shown, sees=model.vision)
            request = replace(
                asked.request, fields={**fields, "messages": messages}, affinity=turn.session.token,
                remembered=0 if new_prompt else len(messages) - 1,
            )  # fmt: skip
            try:
                await respond(request, turn)
            except ServiceError as error:
                shorter = fewer(turn.session, turn.shown) if getattr(error, "code", None) in TOO_LONG else None
                if shorter is None or turn.heard.text:
                    raise
                turn.shown = shorter
            else:
                return

    async def _watch(self, turn: Turn, answering: Interruptible) -> None:
        """Stop an answer whose turn is not the session's, or no longer."""
        try:
            await turn.claimed()
        except Exception as error:
            answering.interrupt(error)
            return
        session: Session | None = turn.session
        while session is not None and session.is_turn_of(turn.session):
            await self._store.changed(session)
            if turn.settling:  # what has changed is most likely that, and its write is told of all else
                return
            try:
                session = await self._store.load(turn.session.key)
            except StoreUnavailable:  # nobody can tell: the write at the end will
                await self._clock.sleep(LOOK_AGAIN)
        if not turn.settling:
            answering.interrupt(SessionDeleted())

    def _end(self) -> float:
        return self._clock.time() + self._settings.limits.session_ttl_seconds


class Patience:
    """Seconds of waiting, of which some are spent."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._began = clock.monotonic()
        self._seconds = seconds

    def spent(self) -> float:
        return self._clock.monotonic() - self._began

    def left(self) -> float:
        return max(0.0, self._seconds - self.spent())


class Turn:
    """A question of a session, and what becomes of it."""

    def __init__(
        self, conversations: Conversations, before: Session | None, session: Session, *, claim: asyncio.Task[None]
    ) -> None:
        """`before`: the session before the question; None: there was none. `session`: with the question. `claim`: the
        writing of that."""
        self.before = before
        self.session = session
        self.claim = claim
        self.heard = Overheard()
        self.shown = 1
        """How many messages the model is shown."""
        self._conversations = conversations
        self._write: asyncio.Task[None] | None = None

    @property
    def settling(self) -> bool:
        return self._write is not None

    async def claimed(self) -> None:
        """Return once the question is kept. Raises SessionConflict, TooManySessions, and what the store raises."""
        await asyncio.shield(self.claim)

    async def settle(self) -> None:
        """Keep the answer as far as it was heard: whole, or marked interrupted; a turn that failed before its first
        word is taken back. Happens once, and whatever becomes of who awaits it. Raises SessionDeleted when there is
        nothing to keep it in any more, and what the store raises; not again to who asks when it is over."""
        if self._write is None:
            self._write = self._conversations.write(self._conversations.keep(self))
        if not self._write.done():
            await asyncio.shield(self._write)
