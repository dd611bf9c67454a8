"""Who waits for a Queue's items: first come, first served, and what is handed to somebody who has left goes back."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from emulator.signals import Signal
from emulator.storage.queues import QueueContents, Taken

if TYPE_CHECKING:
    from collections.abc import Sequence

    from emulator.clock import Clock
    from emulator.storage.queues import Item


class QueueGoneError(Exception):
    """The Queue was deleted while somebody waited for its items."""


@dataclass(eq=False)
class Getter:
    count: int
    given: asyncio.Future[Taken]


class QueueLines:
    """A Queue's contents and those who wait for them."""

    def __init__(self, contents: QueueContents, clock: Clock) -> None:
        self.contents = contents
        self._clock = clock
        self._lines: dict[bytes, deque[Getter]] = {}
        self._put = Signal()
        self._closed = False

    def put(self, key: bytes, values: Sequence[bytes], *, ttl: float) -> None:
        """Raises `QueueFullError`."""
        self.contents.put(key, values, ttl=ttl, now=self._clock.time())
        self._serve(key)

    def put_back(self, key: bytes, taken: Taken) -> None:
        """What was taken has not arrived: the next who waits gets it."""
        if not self._closed:
            self.contents.put_back(key, taken, self._clock.time())
            self._serve(key)

    async def take(self, key: bytes, count: int, timeout: float) -> Taken:
        """Up to `count` items, at least one unless none comes within `timeout` seconds. Raises `QueueGoneError`."""
        if key not in self._lines:
            taken = self.contents.take(key, count, self._clock.time())
            if taken.items or timeout <= 0:
                return taken
        elif timeout <= 0:
            return Taken()  # where somebody waits there is nothing
        getter = Getter(count, asyncio.get_running_loop().create_future())
        self._lines.setdefault(key, deque()).append(getter)
        try:
            async with self._clock.outside.timeout(timeout):
                await getter.given
        except TimeoutError:
            pass  # it may have been given something in that very moment
        except asyncio.CancelledError:
            self._leave(key, getter)
            self.put_back(key, _given(getter))
            raise
        if self._closed:
            raise QueueGoneError
        self._leave(key, getter)
        return _given(getter)

    async def after(self, key: bytes, entry_id: int, timeout: float) -> list[Item]:
        """Items after that one, as soon as there is one; none after `timeout` seconds. Raises `QueueGoneError`."""
        try:
            async with self._clock.outside.timeout(max(0.0, timeout)):
                while not (items := self.contents.after(key, entry_id, self._clock.time())):
                    if timeout <= 0:
                        return []
                    await self._put.wait()
                    if self._closed:
                        raise QueueGoneError
                return items
        except TimeoutError:
            return []

    def close(self) -> None:
        """The Queue is gone: nobody waits any more."""
        self._closed = True
        lines, self._lines = self._lines, {}
        for getter in (getter for line in lines.values() for getter in line):
            if not getter.given.done():
                getter.given.set_exception(QueueGoneError())
        self._put.notify()

    def _serve(self, key: bytes) -> None:
        line = self._lines.get(key, deque())
        while line:
            getter = line[0]
            if not getter.given.done():
                taken = self.contents.take(key, getter.count, self._clock.time())
                if not taken.items:
                    break
                getter.given.set_result(taken)
            line.popleft()
        if not line:
            self._lines.pop(key, None)
        self._put.notify()

    def _leave(self, key: bytes, getter: Getter) -> None:
        line = self._lines.get(key)
        if line is not None and getter in line:
            line.remove(getter)
            if not line:
                del self._lines[key]


def _given(getter: Getter) -> Taken:
    """What it was given, if anything."""
    future = getter.given
    if not future.done() or future.cancelled() or future.exception() is not None:
        return Taken()
    return future.result()
