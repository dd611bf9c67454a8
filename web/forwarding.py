"""What an engine says, on its way to the caller: translated and written as it is heard, on no task's time.

Waking a task for every event costs more than everything that is done with it. So the connection hands each read to a
reader here, which translates and writes on the spot; the request's task wakes for what cannot be done at once: a caller
who reads slowly, events held back to be sent together, the end.
"""

from __future__ import annotations

import asyncio
import contextvars
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

    from web.clock import Clock
    from web.dialects.translation import StreamedAnswer, WholeAnswer
    from web.errors import ServiceError
    from web.exchange import Exchange
    from web.outlets import Outlet

    Note = Callable[[float], None]

MOST_UNWRITTEN = 64 * 1024
"""Bytes for a caller who reads slowly: above it nothing more is read from the engine."""


class Reader(Protocol):
    """Who hears what an engine says in an exchange. Called by the event loop, not by a task; must never raise."""

    def heard(self, data: bytes) -> None:
        """At least one byte came."""

    def broken(self, error: ServiceError) -> None:
        """The engine died or stalled: nothing more comes."""


class Collecting:
    """The reader of a plain caller's answer. `note` is called with the time after each piece that was taken in."""

    def __init__(self, exchange: Exchange, answer: WholeAnswer, *, clock: Clock, note: Note) -> None:
        self._exchange = exchange
        self._answer = answer
        self._clock = clock
        self._note = note
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Return once the answer is complete. Raises ServiceError."""
        self._exchange.listen(self)
        await self._done

    def heard(self, data: bytes) -> None:
        if self._done.done():
            return
        try:
            self._answer.feed(data)
        except Exception as error:
            self._done.set_exception(error)
            return
        self._note(self._clock.monotonic())
        if self._answer.failure is not None:
            self._done.set_exception(self._answer.failure)
        elif self._answer.done:
            self._exchange.finish()
            self._done.set_result(None)

    def broken(self, error: ServiceError) -> None:
        if not self._done.done():
            self._done.set_exception(error)


class Forwarding:
    """The reader of a streaming caller's answer. `pause`: events that come within so many seconds of the last write are
    written together, the first and the last excepted."""

    def __init__(
        self, exchange: Exchange, answer: StreamedAnswer, out: Outlet, *, clock: Clock, pause: float, note: Note
    ) -> None:
        self._exchange = exchange
        self._answer = answer
        self._out = out
        self._clock = clock
        self._pause = pause
        self._note = note
        self._sent = -pause
        self._begun: BegunWrite | None = None
        self._unwritten: list[bytes] = []
        self._size = 0
        self._complete = False
        self._error: Exception | None = None
        self._at_work = True
        """The task writes: nobody else may."""
        self._work = asyncio.Event()

    async def run(self) -> None:
        """Return once all of the answer is written. Raises ServiceError, and what the outlet raises."""
        self._inside = asyncio.current_task()
        self._context = contextvars.copy_context()
        self._exchange.listen(self)
        try:
            while not await self._catch_up():
                self._at_work = False
                self._work.clear()
                await self._work.wait()
                self._at_work = True
        finally:
            self._at_work = True
            if self._begun is not None:
                self._begun.close()

    def heard(self, data: bytes) -> None:
        if self._complete or self._error is not None:
            return
        try:
            told = self._answer.feed(data)
            now = self._clock.monotonic()
            self._note(now)
            if self._answer.done:
                self._exchange.finish()
                self._complete = True
                self._later(told + self._answer.end())
            elif told:
                if self._at_work or (self._pause and now < self._sent + self._pause):
                    self._later(told)
                else:
                    self._write(told, now)
        except Exception as error:
            self.broken(error)
        else:
            if self._answer.failure is not None:
                self.broken(self._answer.failure)

    def broken(self, error: Exception) -> None:
        if not self._complete and self._error is None:
            self._error = error
            self._work.set()

    def _write(self, data: bytes, now: float) -> None:
        """Write now. Where that has to wait, the task does."""
        assert self._inside is not None
        self._sent = now
        begun = BegunWrite(self._out.write(data), task=self._inside, context=self._context)
        if not begun.done:
            self._begun, self._at_work = begun, True
            self._work.set()

    def _later(self, data: bytes) -> None:
        """Leave it to the task."""
        self._unwritten.append(data)
        self._size += len(data)
        if self._size > MOST_UNWRITTEN:
            self._exchange.hold()
        self._work.set()

    async def _catch_up(self) -> bool:
        """Write what could not be written on the spot. True: that was all of the answer. Raises what went wrong, once
        everything that came before it is written."""
        if self._begun is not None:
            begun, self._begun = self._begun, None
            await begun
        while self._unwritten:
            early = self._sent + self._pause - self._clock.monotonic() if self._pause else 0.0
            if early > 0 and not self._complete:
                await self._clock.sleep(early)
            data = b"".join(self._unwritten)
            self._unwritten, self._size = [], 0
            if self._complete:
                await self._out.end(data)
                return True
            await self._out.write(data)
            self._sent = self._clock.monotonic()
            self._exchange.go_on()
        if self._error is not None:
            raise self._error
        return False


class BegunWrite:
    """A coroutine whose first step is taken now, in the name of a task that awaits the rest, if there is one.

    Most writes wait for nothing: then that step is all of it, and `done` is true. Whatever the coroutine asks asyncio
    meanwhile (its task, its context) is answered as if the task ran it.
    """

    def __init__(
        self, coroutine: Coroutine[Any, Any, None], *, task: asyncio.Task[Any], context: contextvars.Context
    ) -> None:
        """Raises what the coroutine raises."""
        self.done = False
        self._coroutine = coroutine
        loop = task.get_loop()
        asyncio.tasks._enter_task(loop, task)
        try:
            self._waits_for = context.run(coroutine.send, None)
        except StopIteration:
            self.done = True
        finally:
            asyncio.tasks._leave_task(loop, task)

    def close(self) -> None:
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, None]:
        waits_for = self._waits_for
        try:
            while True:
                try:
                    told = yield waits_for
                except BaseException as error:  # its own affair, a cancel too
                    waits_for = self._coroutine.throw(error)
                else:
                    waits_for = self._coroutine.send(told)
        except StopIteration:
            return
