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
    from collections.abc import Coroutine, Generator

    from web.clock import Clock
    from web.dialects.translation import StreamedAnswer, WholeAnswer
    from web.errors import ServiceError
    from web.exchange import Exchange
    from web.observation import Observation
    from web.outlets import Outlet

MOST_UNWRITTEN = 64 * 1024
"""Bytes for a caller who reads slowly: above it nothing more is read from the engine."""


class Reader(Protocol):
    """Who hears what an engine says in an exchange. Called by the event loop, not by a task; must never raise."""

    def heard(self, data: bytes) -> None:
        """At least one byte came."""

    def broken(self, error: ServiceError) -> None:
        """The engine died or stalled: nothing more comes."""


class Collecting:
    """The reader of a plain caller's answer."""

    def __init__(self, exchange: Exchange, answer: WholeAnswer, *, clock: Clock, observation: Observation) -> None:
        self._exchange = exchange
        self._answer = answer
        self._clock = clock
        self._observation = observation
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Return once the answer is complete. Raises ServiceError."""
        self._exchange.listen(self)
        await self._done

    def heard(self, data: bytes) -> None:
        answer, done = self._answer, self._done
        if done.done():
            return
        before = answer.heard
        try:
            answer.feed(data)
        except Exception as error:
            done.set_exception(error)
        if answer.heard > before:
            self._observation.heard(answer.heard - before, self._clock.monotonic())
        if done.done():
            return
        if answer.failure is not None:
            done.set_exception(answer.failure)
        elif answer.done:
            self._exchange.finish()
            done.set_result(None)

    def broken(self, error: ServiceError) -> None:
        if not self._done.done():
            self._done.set_exception(error)


class Forwarding:
    """The reader of a streaming caller's answer. `pause`: events that come within so many seconds of the last write are
    written together, the first and the last excepted."""

    def __init__(
        self, exchange: Exchange, answer: StreamedAnswer, out: Outlet,
        *, clock: Clock, pause: float, observation: Observation,
    ) -> None:  # fmt: skip
        self._exchange = exchange
        self._answer = answer
        self._out = out
        self._clock = clock
        self._pause = pause
        self._observation = observation
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
        task = asyncio.current_task()
        assert task is not None
        self._task, self._loop = task, task.get_loop()
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
        answer = self._answer
        if self._complete or self._error is not None:
            return
        before = answer.heard
        try:
            try:
                told = answer.feed(data)
            finally:  # a guard may cut the answer in what has just been heard
                now = self._clock.monotonic()
                if answer.heard > before:
                    self._observation.heard(answer.heard - before, now)
            if answer.done:
                self._exchange.finish()
                self._complete = True
                self._later(told + answer.end())
            elif told:
                if self._at_work or self._unwritten or (self._pause and now < self._sent + self._pause):
                    self._later(told)
                else:
                    self._sent = now
                    if not self._out.write_now(told):
                        self._write(told)
        except Exception as error:
            self.broken(error)
        else:
            if answer.failure is not None:
                self.broken(answer.failure)

    def broken(self, error: Exception) -> None:
        if not self._complete and self._error is None:
            self._error = error
            self._work.set()

    def _write(self, data: bytes) -> None:
        """Write now, in the name of the task. What has to be waited for, the task waits for.

        Most writes wait for nothing: then the first step of `write` is all of it. Whatever that asks asyncio meanwhile
        (its task, its context) is answered as if the task ran it.
        """
        writing = self._out.write(data)
        asyncio.tasks._enter_task(self._loop, self._task)
        try:
            waits_for = self._context.run(writing.send, None)
        except StopIteration:
            return
        finally:
            asyncio.tasks._leave_task(self._loop, self._task)
        self._begun, self._at_work = BegunWrite(writing, waits_for), True
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
    """The rest of a coroutine whose first step was taken outside the task that awaits this."""

    def __init__(self, coroutine: Coroutine[Any, Any, None], waits_for: object) -> None:
        self._coroutine = coroutine
        self._waits_for = waits_for

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
