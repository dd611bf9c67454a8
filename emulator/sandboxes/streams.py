"""A command's streams: what it has written, kept up to a limit and read by offset, and what it is given to read."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from emulator.signals import Signal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

KEPT = 16 << 20
"""Bytes of each stream. What is written beyond them takes the place of the oldest, unless somebody reads just then."""
_AHEAD = 1 << 20
"""Bytes that a command may write ahead of who reads them."""
_READ = 65536
_PIECE = 256 << 10
_READS_AT_ONCE = 64
_BUFFERED = 1 << 20


class Transcript:
    """What was written to one stream, from byte `start` on."""

    def __init__(self, limit: int = KEPT) -> None:
        self.start = 0
        self.done = False
        self.room: Callable[[], None] = lambda: None
        """Called when somebody has read on, or reads no more."""
        self._limit = limit
        self._kept = bytearray()
        self.changed = Signal()
        self._readers: dict[object, int] = {}
        """How far each has read."""
        self._read_to = 0
        """How far the one has who has read most."""

    @property
    def end(self) -> int:
        return self.start + len(self._kept)

    @property
    def full(self) -> bool:
        """Whether who writes has to wait for who reads."""
        return bool(self._readers) and self.end - min(self._readers.values()) >= _AHEAD

    def add(self, data: bytes) -> None:
        self._kept += data
        if (beyond := len(self._kept) - self._limit) > 0:
            del self._kept[:beyond]
            self.start += beyond
        self.changed.notify()

    def finish(self) -> None:
        """Nothing more comes."""
        self.done = True
        self.changed.notify()

    def since(self, offset: int) -> tuple[int, bytes]:
        """A piece of what is there from `offset` on, and its offset: a later one where that is no longer kept."""
        at = max(offset, self.start)
        return at, bytes(memoryview(self._kept)[at - self.start : at - self.start + _PIECE])

    async def pieces(self, offset: int) -> AsyncIterator[tuple[int, bytes]]:
        """What is there from `offset` on and what comes, as `since` has it, to the end of the stream."""
        reader = object()
        self._readers[reader] = offset
        self.changed.notify()
        try:
            while True:
                at, data = self.since(offset)
                if data:
                    yield at, data
                    offset = self._readers[reader] = at + len(data)
                    self._read_to = max(self._read_to, offset)
                    self.room()
                elif self.done:
                    return
                else:
                    await self.changed.wait()
        finally:
            del self._readers[reader]
            self.room()
            self.changed.notify()

    @property
    def awaits_reader(self) -> bool:
        """Whether there is something that nobody reads, and nobody has read."""
        return bool(self._kept) and not self._readers and self._read_to < self.end

    @property
    def being_read(self) -> bool:
        return bool(self._readers)


class Pump:
    """Moves what comes out of a descriptor into a transcript, and closes the descriptor at its end.

    `heard` is called with each piece.
    """

    def __init__(self, descriptor: int, transcript: Transcript, heard: Callable[[bytes], None]) -> None:
        self._descriptor = descriptor
        self._transcript = transcript
        self._heard = heard
        self._loop = asyncio.get_running_loop()
        transcript.room = self._resume
        self._loop.add_reader(descriptor, self._readable)

    def _readable(self) -> None:
        self._read()
        if self._descriptor >= 0 and not self._transcript.done and self._transcript.full:
            self._loop.remove_reader(self._descriptor)

    def _resume(self) -> None:
        if self._descriptor >= 0 and not self._transcript.full:
            self._loop.add_reader(self._descriptor, self._readable)

    def _read(self) -> bool:
        """Whether there may be more."""
        try:
            data = os.read(self._descriptor, _READ)
        except BlockingIOError:
            return False
        except OSError:  # a terminal that nobody has open any more
            data = b""
        if not data:
            self.close()
        elif not self._transcript.done:
            self._transcript.add(data)
            self._heard(data)
        return bool(data)

    def command_ended(self) -> None:
        """The stream ends with what is there now. What the command left behind may write on, to nobody."""
        for _ in range(_READS_AT_ONCE):
            if self._descriptor < 0 or not self._read():
                break
        self._transcript.finish()
        if self._descriptor >= 0:
            self._loop.add_reader(self._descriptor, self._readable)

    def close(self) -> None:
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1
            self._transcript.finish()


class StdinClosed(Exception):
    """Nobody reads what is written."""


class Stdin:
    """What a command reads. Writes say where they belong, so that one which is repeated does no harm."""

    def __init__(self, descriptor: int, *, terminal: bool) -> None:
        self.accepted = 0
        """Bytes taken in so far."""
        self.closed = False
        self._descriptor = descriptor
        self._terminal = terminal
        self._buffer = bytearray()
        self._changed = Signal()
        self._loop = asyncio.get_running_loop()

    async def write(self, data: bytes, *, offset: int | None = None, eof: bool = False) -> None:
        """Returns when the command has read nearly all of it. Raises `StdinClosed`, or `ValueError` for a gap."""
        if offset is not None and offset > self.accepted:
            raise ValueError(f"stdin has {self.accepted} bytes: what follows byte {offset} can not be written yet")
        fresh = data if offset is None else data[self.accepted - offset :]
        if fresh and (self.closed or self._descriptor < 0):
            raise StdinClosed("stdin is closed")
        self._buffer += fresh
        self.accepted += len(fresh)
        if eof and not self.closed:
            self.closed = True
            if self._terminal:
                self._buffer += b"\x04"
        self._flush()
        while len(self._buffer) > _BUFFERED and self._descriptor >= 0:
            await self._changed.wait()
        if fresh and self._descriptor < 0 and not self.closed:
            raise StdinClosed("the command reads no more")

    def _flush(self) -> None:
        if self._descriptor < 0:
            return
        try:
            while self._buffer:
                del self._buffer[: os.write(self._descriptor, memoryview(self._buffer)[:_READ].tobytes())]
        except BlockingIOError:
            self._loop.add_writer(self._descriptor, self._flush)
            self._changed.notify()
            return
        except OSError:
            self.end()
            return
        self._loop.remove_writer(self._descriptor)
        self._changed.notify()
        if self.closed and not self._terminal:
            self.end()

    def end(self) -> None:
        """Close it: nobody reads, or all is written."""
        if self._descriptor >= 0:
            self._loop.remove_writer(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1
            self._buffer.clear()
            self._changed.notify()
