"""Where a stream goes: what the relay needs of it, and the HTTP response that most callers read it from."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from web.dialects.sse import comment

if TYPE_CHECKING:
    from starlette.types import Send

    from web.extensions import Connection

STREAM_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


class Outlet(Protocol):
    """A caller who is told an answer piece by piece. Writing waits while that caller reads slowly.

    `begun`: whether anything was sent, so that a failure has to be told in the stream. `written` is set by every write;
    whoever watches for silence clears it. `writing`: a write is under way, since the caller has not taken yet what was
    sent before; `writes`: which one it is, so that whoever looks twice can tell whether it has stopped.
    """

    begun: bool
    written: bool
    writing: bool
    writes: int

    def write_now(self, data: bytes) -> bool:
        """The same as `write`, if that needs no waiting and no coroutine. False: nothing was sent."""

    async def write(self, data: bytes) -> None:
        """Send bytes that a renderer made: whole events, or whole frames."""

    async def end(self, data: bytes) -> None:
        """Send the last bytes."""

    async def comment(self, text: str) -> None:
        """Show that the service lives while it has nothing to say (`text`: why), unless a write is under way."""


class StreamingResponse:
    """The response of a streaming caller over HTTP: its headers go with its first bytes."""

    def __init__(
        self, send: Send, *, headers: list[tuple[bytes, bytes]] | None = None, connection: Connection | None = None
    ) -> None:
        """`headers`: more of them, beside those of every stream. `connection`: the if the server offers it."""
        self._send = send
        self._connection = connection
        self._headers = STREAM_HEADERS + (headers or [])
        self._commenting: asyncio.Future[None] | None = None
        self.begun = False
        self.written = False
        self.writing = False
        self.writes = 0

    def write_now(self, data: bytes) -> bool:
        connection = self._connection
        if connection is None or not self.begun or self.writing or self._commenting is not None:
            return False
        if not connection.write_now(data):
            return False
        self.written = True
        self.writes += 1
        return True

    async def write(self, data: bytes, *, more: bool = True) -> None:
        """Send bytes: whole events. Waits while the caller reads slowly."""
        if self._commenting is not None:
            await self._commenting
        self.writing = self.written = True
        self.writes += 1
        if not self.begun:
            await self._begin()
        await self._send({"type": "http.response.body", "body": data, "more_body": more})
        # Left set by an interruption, and by the end: no comment may follow either.
        self.writing = not more

    async def end(self, data: bytes) -> None:
        await self.write(data, more=False)

    async def comment(self, text: str) -> None:
        """Send a comment, unless the caller has not taken yet what was sent before."""
        if self.writing or self._commenting is not None:
            return
        self._commenting = done = asyncio.get_running_loop().create_future()
        try:
            if not self.begun:
                await self._begin()
            await self._send({"type": "http.response.body", "body": comment(text), "more_body": True})
        finally:
            self._commenting = None
            if not done.done():
                done.set_result(None)

    async def _begin(self) -> None:
        await self._send({"type": "http.response.start", "status": 200, "headers": self._headers})
        self.begun = True
