"""An engine's answer to one request, as it comes in over a connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from web.connection import Connection

MOST_UNHEARD = 64 * 1024
"""Bytes that wait for a listener: above it nothing more is read from the engine."""


class ConnectionBroken(OSError):
    """The connection ended, or what came was not HTTP, before the answer was complete."""


Heard = Callable[[bytes], None]
"""Is told at least one byte of a body. Called by the event loop, not by a task: must be quick, and never raise."""
Ended = Callable[[ConnectionBroken | None], None]
"""Is told that nothing more comes. None: the answer is complete."""


class Answer:
    """Wait for `begin`, then `listen`, and `let_go` or `close` it in the end."""

    def __init__(self, connection: Connection) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        """Names in lower case; of several with one name the last."""
        self.over = False
        """Nothing more comes."""
        self.reads = 0
        """How often something of the body came."""
        self.hears: Heard = self._keep
        """To whom the connection tells the body."""
        self._connection = connection
        self._begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._error: ConnectionBroken | None = None
        self._ended: Ended | None = None
        self._unheard: list[bytes] = []

    async def begin(self) -> None:
        """Return once the status and the headers are there. Cancelled, it closes. Raises ConnectionBroken."""
        try:
            await self._begun
        except asyncio.CancelledError:
            self.close()
            raise

    def listen(self, heard: Heard, ended: Ended) -> None:
        """From now on `heard` is told the body, at once what has come of it already, and `ended` its end."""
        self.hears, self._ended = heard, ended
        unheard, self._unheard = self._unheard, []
        self.go_on()
        if unheard:
            heard(b"".join(unheard))  # who may want to hold
        if self.over:
            ended(self._error)

    def hold(self) -> None:
        """Read nothing more from the engine, until `go_on`."""
        if not self.over:
            self._connection.hold()

    def go_on(self) -> None:
        if not self.over:
            self._connection.go_on()

    def let_go(self) -> None:
        """Nobody listens any more: the rest may come, and then the connection serves again."""
        self._listen_no_more()
        self.go_on()

    def close(self) -> None:
        """Nobody listens any more, and the engine is to stop: the connection is cut."""
        self._listen_no_more()
        if not self.over:
            self._connection.cut()

    def cut(self) -> None:
        """The connection is cut, and whoever waits or listens is told so."""
        if not self.over:
            self._connection.cut()

    # What the connection tells.

    def begins(self, status: int, headers: dict[str, str]) -> None:
        self.status, self.headers = status, headers
        if not self._begun.done():
            self._begun.set_result(None)

    def ends(self, error: ConnectionBroken | None) -> None:
        self.over, self._error = True, error
        if not self._begun.done():
            self._begun.set_exception(error or ConnectionBroken("the engine answered nothing"))
        if self._ended is not None:
            self._ended(error)

    def _keep(self, data: bytes) -> None:
        self._unheard.append(data)
        if sum(map(len, self._unheard)) > MOST_UNHEARD:
            self.hold()

    def _listen_no_more(self) -> None:
        self.hears, self._ended, self._unheard = _ignore, None, []


def _ignore(data: bytes) -> None:
    """Nobody listens."""


class Whole:
    """Listens to all of a body, or its first `most` bytes."""

    def __init__(self, answer: Answer, *, most: int | None = None) -> None:
        self._answer = answer
        self._most = most
        self._size = 0
        self._parts: list[bytes] = []
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def read(self) -> bytes:
        """Raises ConnectionBroken when the answer ends before it is complete."""
        self._answer.listen(self._hear, self._end)
        await self._done
        return b"".join(self._parts)

    def _hear(self, data: bytes) -> None:
        self._parts.append(data)
        self._size += len(data)
        if self._most is not None and self._size >= self._most and not self._done.done():
            self._done.set_result(None)

    def _end(self, error: ConnectionBroken | None) -> None:
        if self._done.done():
            return
        if error is None:
            self._done.set_result(None)
        else:
            self._done.set_exception(error)
