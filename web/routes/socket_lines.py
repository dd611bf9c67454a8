"""The server's side of one WebSocket: frames written one after another, by whoever has something to say."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from web.dialects.service_frames import frames

if TYPE_CHECKING:
    from starlette.types import Send

    from web.conversations import Turn
    from web.dialects.service_frames import Talk


class Line:
    """Writes whole frames in order. A caller who reads slowly holds back those who wait for `say`, and nobody else."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._order = asyncio.Lock()
        self._aside: asyncio.Task[None] | None = None
        self._closed = False

    async def say(self, *texts: str | None) -> None:
        """Send frames (None: not one). Waits while the caller reads slowly, and for ever once the connection is gone:
        whoever reads it knows, and cancels."""
        async with self._order:
            for text in texts:
                if text is not None:
                    await self._put({"type": "websocket.send", "text": text})

    def say_aside(self, text: str) -> None:
        """Send a frame that nobody waits for, unless the one before it has not been taken yet."""
        if self._aside is None or self._aside.done():
            self._aside = asyncio.create_task(self.say(text), name="aside")

    async def close(self, code: int, reason: str) -> None:
        """Close the connection, behind what is being written. Nothing is sent any more."""
        async with self._order:
            await self._put({"type": "websocket.close", "code": code, "reason": reason})
            self._closed = True

    def end(self) -> None:
        """Let go of what is still to be written."""
        if self._aside is not None:
            self._aside.cancel()

    async def _put(self, message: dict[str, object]) -> None:
        if not self._closed:
            try:
                await self._send(message)
            except OSError:
                self._closed = True
        if self._closed:
            await asyncio.get_running_loop().create_future()


class SocketOutlet:
    """One answer's `Outlet`. Only text begins it: before that, an error is its asker's to tell."""

    def __init__(self, line: Line, talk: Talk) -> None:
        self.turn: Turn | None = None
        """Whose answer it is, in a session: its question is kept before the first frames leave, it before the last."""
        self.begun = False
        self.written = False
        self.writing = False
        self.writes = 0
        self._line = line
        self._talk = talk

    def write_now(self, data: bytes) -> bool:  # noqa: ARG002 (frames are written in their order)
        return False

    async def write(self, data: bytes) -> None:
        if self.turn is not None:
            await self.turn.claimed()
        self.begun = self.written = self.writing = True
        self.writes += 1
        await self._line.say(*frames(data))
        self.writing = False

    async def end(self, data: bytes) -> None:
        if self.turn is not None:
            await self.turn.settle()
        await self.write(data)

    async def comment(self, text: str) -> None:
        if not self.writing:
            if self.turn is not None:
                await self.turn.claimed()
            await self._line.say(self._talk.status(text))
