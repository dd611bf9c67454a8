"""The two byte streams of a call: what its container reads and what it writes, in numbered chunks."""

from __future__ import annotations

from collections import deque
from contextlib import aclosing, nullcontext
from itertools import islice
from typing import TYPE_CHECKING

from emulator.scheduler.pacing import Pacing
from emulator.signals import Signal

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable
    from contextlib import AbstractContextManager

    from modal_proto import api_pb2

AHEAD_BYTES = 4 << 20
REPLAY_BYTES = 4 << 20
UNSEEN_BYTES = 64 << 20
"""What a stream holds for a reader who has never come."""
CHUNK_OVERHEAD = 512


READER_AWAITED = 30.0
"""Seconds that a container waits for a reader who has left, before it goes on without one."""


class StreamLost(Exception):
    """A reader asked for chunks that have already been let go."""


class DataStream:
    """Chunks numbered from 1, one writer at a time, readers who may come back.

    A writer waits while the reader is more than `AHEAD_BYTES` behind, also one who has left: he may come back, or the
    call ends, or the stream is abandoned and what nobody reads is let go. Where none has ever come, it waits at
    `UNSEEN_BYTES`. What was read is kept, up to `REPLAY_BYTES`, for
    a reader whose connection broke or an input that is tried again; the numbers make a repeated write harmless.
    """

    def __init__(self, *, expects_reader: bool) -> None:
        self._chunks: deque[api_pb2.DataChunk] = deque()
        self._first = 1
        self._unread = 0
        self._kept = 0
        self._read_index = 0
        self._limit = AHEAD_BYTES if expects_reader else UNSEEN_BYTES
        self._readers = 0
        self._came = False
        self._abandoned = False
        self._closed = False
        self._changed = Signal()
        self._dropped_blobs: list[str] = []
        self.pacing = Pacing()

    @property
    def last_index(self) -> int:
        return self._first + len(self._chunks) - 1

    @property
    def size(self) -> int:
        """Bytes that it holds, about."""
        return self._unread + self._kept

    def blobs(self) -> list[str]:
        """Ids of what was too large for its chunks, also for those that it holds no more."""
        return self._dropped_blobs + [chunk.data_blob_id for chunk in self._chunks if chunk.data_blob_id]

    @property
    def left(self) -> bool:
        """Whether readers have come, and none is there now."""
        return self._came and not self._readers

    @property
    def whole(self) -> bool:
        """Whether a reader could still start from the beginning."""
        return self._first == 1

    def close(self) -> None:
        """No more chunks: readers end after the last one, writers are let go."""
        self._closed = True
        self._changed.notify()

    async def put(self, chunks: Iterable[api_pb2.DataChunk]) -> None:
        """Append chunks; those whose number is already there are dropped. Waits while the reader is behind."""
        for chunk in chunks:
            if self._closed:
                return
            if chunk.index and chunk.index <= self.last_index:
                continue
            chunk.index = self.last_index + 1
            self._chunks.append(chunk)
            self._unread += _size(chunk)
        self._changed.notify()
        if self._abandoned:
            self._skip()
        while self._unread > self._limit and not self._closed:
            await self._changed.wait()

    def abandon(self) -> None:
        """Nobody will read on: the writer waits no more. Of what it writes as much is held as for a slow reader."""
        self._abandoned = True
        self._skip()

    def _skip(self) -> None:
        while self._unread > self._limit:
            self._note_read(self._read_index + 1, self._chunks[self._read_index + 1 - self._first])

    async def read(self, last_index: int = 0) -> AsyncGenerator[api_pb2.DataChunk]:
        """Every chunk after `last_index`, waiting for those to come, until the stream is closed."""
        async with aclosing(self.batches(last_index)) as batches:
            async for batch in batches:
                for chunk in batch:
                    yield chunk

    async def batches(
        self, last_index: int = 0, *, holding: Callable[[], AbstractContextManager[None]] = nullcontext
    ) -> AsyncGenerator[list[api_pb2.DataChunk]]:
        """The same, with all that is there at once in one list. `holding` is entered whenever it waits."""
        self._limit = AHEAD_BYTES
        self._readers += 1
        self._came = True
        try:
            while True:
                if last_index + 1 < self._first:
                    raise StreamLost(f"chunk {last_index + 1} is gone; the oldest kept is {self._first}")
                if batch := list(islice(self._chunks, last_index + 1 - self._first, None)):
                    for chunk in batch:
                        last_index += 1
                        self._note_read(last_index, chunk)
                    yield batch
                elif self._closed:
                    return
                else:
                    with holding():
                        await self._changed.wait()
        finally:
            self._readers -= 1

    def _note_read(self, index: int, chunk: api_pb2.DataChunk) -> None:
        if index <= self._read_index:
            return
        self._read_index = index
        self._unread -= _size(chunk)
        self._kept += _size(chunk)
        while self._kept > REPLAY_BYTES and self._first <= self._read_index:
            gone = self._chunks.popleft()
            self._kept -= _size(gone)
            self._first += 1
            if gone.data_blob_id:
                self._dropped_blobs.append(gone.data_blob_id)
        self._changed.notify()


def _size(chunk: api_pb2.DataChunk) -> int:
    return len(chunk.data) + CHUNK_OVERHEAD
