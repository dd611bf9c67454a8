"""An engine's answer to one request, as it comes in over a connection."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from web.connection import Connection

MOST_UNHEARD = 64 * 1024
"""Bytes that wait for a listener: above it nothing more is read from the engine."""


class ConnectionBroken(OSError):
    """The connection ended, or what came was not HTTP, before the answer was complete."""


class Listener(Protocol):
    """Who hears an answer's body. Called by the event loop, not by a task: must be quick, and never raise."""

    def heard(self, data: bytes) -> None:
        """At least one byte came."""

    def ended(self, error: ConnectionBroken | None) -> None:
        """Nothing more comes. None: the answer is complete."""


class Answer:
    """Wait for `begin`, then `listen`, and `let_go` or `close` it in the end."""

    def __init__(self, connection: Connection) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        """Names in lower case; of several with one name the last."""
        self.over = False
        """Nothing more comes."""
        self._connection = connection
        self._begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._error: ConnectionBroken | None = None
        self._listener: Listener | None = None
        self._unwanted = False
        self._unheard: list[bytes] = []

    async def begin(self) -> None:
        """Return once the status and the headers are there. Raises ConnectionBroken."""
        await self._begun

    def listen(self, listener: Listener) -> None:
        """From now on `listener` hears the body: at once what has come of it already."""
        self._listener = listener
        unheard, self._unheard = self._unheard, []
        if unheard:
            listener.heard(b"".join(unheard))
        if self.over:
            listener.ended(self._error)
        else:
            self._connection.go_on()

    def hold(self) -> None:
        """Read nothing more from the engine, until `go_on`."""
        if not self.over:
            self._connection.hold()

    def go_on(self) -> None:
        if not self.over:
            self._connection.go_on()

    def let_go(self) -> None:
        """Nobody listens any more: the rest may come, and then the connection serves again."""
        self._listener, self._unwanted = None, True
        self.go_on()

    def close(self) -> None:
        """Nobody listens any more, and the engine is to stop: the connection is cut."""
        self._listener, self._unwanted = None, True
        if not self.over:
            self._connection.cut()

    # What the connection tells.

    def begins(self, status: int, headers: dict[str, str]) -> None:
        self.status, self.headers = status, headers
        if not self._begun.done():
            self._begun.set_result(None)

    def hears(self, data: bytes) -> None:
        if self._listener is not None:
            self._listener.heard(data)
        elif not self._unwanted:
            self._unheard.append(data)
            if sum(map(len, self._unheard)) > MOST_UNHEARD:
                self.hold()

    def ends(self, error: ConnectionBroken | None) -> None:
        self.over, self._error = True, error
        if not self._begun.done():
            self._begun.set_exception(error or ConnectionBroken("the engine answered nothing"))
        if self._listener is not None:
            self._listener.ended(error)


class Whole:
    """A listener that keeps all of a body, or its first `most` bytes."""

    def __init__(self, answer: Answer, *, most: int | None = None) -> None:
        self._answer = answer
        self._most = most
        self._size = 0
        self._parts: list[bytes] = []
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def read(self) -> bytes:
        """Raises ConnectionBroken when the answer ends before it is complete."""
        self._answer.listen(self)
        await self._done
        return b"".join(self._parts)

    def heard(self, data: bytes) -> None:
        self._parts.append(data)
        self._size += len(data)
        if self._most is not None and self._size >= self._most and not self._done.done():
            self._done.set_result(None)

    def ended(self, error: ConnectionBroken | None) -> None:
        if self._done.done():
            return
        if error is None:
            self._done.set_result(None)
        else:
            self._done.set_exception(error)
