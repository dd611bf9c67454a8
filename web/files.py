"""The domain of files: what callers upload and batches write, and what a store of their records must do.

A record tells of the object that holds the bytes. It is there before the object and goes after it, so that whatever
dies in between, `sweep` finds what is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol

from infra.aws import ObjectMissing, StateUnavailable
from web.file_errors import FileNotFound, FileTooLarge, StorageUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
    from types import TracebackType
    from typing import Self

    from infra.batching import Files as FilesSettings
    from web.clock import Clock
    from web.objects import ObjectKeeper

log = logging.getLogger(__name__)

Purpose = Literal["batch", "batch_output", "user_data"]
State = Literal["uploading", "ready", "deleted"]
"""Only who is `ready` is seen by anybody."""

BATCH_FILE_SECONDS = 30 * 86400
"""After which files of batches expire, as at OpenAI."""
READ_BYTES = 4 * 1024 * 1024
SANE_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
SWEPT_AT_ONCE = 100


@dataclass(frozen=True, kw_only=True)
class File:
    """Times are seconds since the epoch. `size`: bytes."""

    owner: str
    id: str
    filename: str
    purpose: Purpose
    size: int
    created_at: float
    expires_at: float | None
    state: State

    @property
    def at(self) -> str:
        """The name of its object."""
        return object_name(self.owner, self.id)

    def expired(self, now: float) -> bool:
        return self.expires_at is not None and self.expires_at <= now


def object_name(owner: str, file_id: str) -> str:
    return f"files/{owner.replace(':', '-')}/{file_id}"


class FileStore(Protocol):
    """Every method may raise StateUnavailable."""

    async def begin(self, file: File, *, until: float) -> None:
        """Keep the record of a file that is `uploading`, and due at `until`. Harmless for one that is more already."""

    async def finish(self, file: File, *, most: int | None = None) -> None:
        """It is `ready`, whatever it was unless deleted, and due when it expires. Its size counts for its owner, once.
        Raises StorageFull where that has more than `most` bytes then, and FileNotFound where it was deleted."""

    async def load(self, owner: str, file_id: str) -> File | None:
        """Whatever its state is."""

    async def listed(
        self, owner: str, *, after: str | None = None, limit: int | None = None, newest_first: bool = True
    ) -> Sequence[File]:
        """The records of an owner's files by id, whatever their state is, from behind `after` on."""

    async def delete(self, file: File, *, until: float) -> None:
        """A `ready` one is `deleted`, due at `until`, and counts no more. Harmless for one that is not `ready`."""

    async def forget(self, file: File) -> None:
        """Remove a record that is not `ready`. Harmless when there is none."""

    async def due(self, *, before: float, limit: int) -> Sequence[File]:
        """Those whose time has come, the earliest first."""


def new_id(prefix: str, now: float) -> str:
    """Sorts by when it was made."""
    return f"{prefix}{round(now * 1000):012x}{secrets.token_hex(10)}"


class Files:
    """What callers do with their files. Every method may raise StorageUnavailable."""

    def __init__(self, store: FileStore, objects: ObjectKeeper, *, settings: FilesSettings, clock: Clock) -> None:
        self._store = store
        self._objects = objects
        self._settings = settings
        self._clock = clock

    def upload(self, owner: str) -> Upload:
        return Upload(self._store, self._objects, owner, settings=self._settings, clock=self._clock)

    async def get(self, owner: str, file_id: str) -> File:
        """Raises FileNotFound."""
        with reached():
            file = await self._store.load(owner, file_id) if SANE_ID.fullmatch(file_id) else None
        if file is None or file.state != "ready" or file.expired(self._clock.time()):
            raise FileNotFound(file_id)
        return file

    async def listed(
        self, owner: str, *, after: str | None, limit: int, newest_first: bool, purpose: str | None
    ) -> tuple[list[File], bool]:
        """At most `limit` of them, and whether there are more."""
        found: list[File] = []
        now = self._clock.time()
        while True:
            wanted = limit + 1 - len(found)
            with reached():
                page = await self._store.listed(owner, after=after, limit=wanted, newest_first=newest_first)
            shown = (file for file in page if file.state == "ready" and not file.expired(now))
            found += [file for file in shown if purpose in (None, file.purpose)]
            if len(page) < wanted or len(found) > limit:
                return found[:limit], len(found) > limit
            after = page[-1].id

    async def content(self, file: File) -> AsyncIterator[bytes]:
        """All of it, in pieces."""
        for start in range(0, file.size, READ_BYTES):
            try:
                with reached():
                    piece = await self._objects.read(file.at, start, min(READ_BYTES, file.size - start))
            except ObjectMissing:
                raise FileNotFound(file.id) from None
            yield piece

    async def delete(self, owner: str, file_id: str) -> None:
        """Raises FileNotFound."""
        file = await self.get(owner, file_id)
        with reached():
            await self._store.delete(file, until=self._clock.time())
            await self._remove(file)

    async def sweep(self) -> int:
        """Remove what has expired, and what was left of uploads and deletions that nobody ended. How many."""
        count = 0
        with reached():
            while due := await self._store.due(before=self._clock.time(), limit=SWEPT_AT_ONCE):
                for file in due:
                    await self._store.delete(file, until=self._clock.time())
                    await self._remove(file)
                count += len(due)
                if len(due) < SWEPT_AT_ONCE:
                    break
        return count

    async def _remove(self, file: File) -> None:
        await self._objects.remove([file.at])
        await self._store.forget(file)


class Upload:
    """A context in which a file comes: `write` its bytes, then `finish`. Left before that, nothing of it is kept.

    Every method may raise StorageUnavailable.
    """

    def __init__(
        self, store: FileStore, objects: ObjectKeeper, owner: str, *, settings: FilesSettings, clock: Clock
    ) -> None:
        self._store = store
        self._objects = objects
        self._settings = settings
        self._clock = clock
        now = clock.time()
        self._file = File(
            owner=owner, id=new_id("file-", now), filename="", purpose="batch", size=0, created_at=now,
            expires_at=None, state="uploading",
        )  # fmt: skip
        self._writer = objects.writer(self._file.at)
        self._begun = self._done = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._begun and not self._done:
            await to_its_end(self._take_back)

    async def write(self, data: bytes) -> None:
        """Raises FileTooLarge."""
        most = self._settings.max_file_bytes
        if self._writer.size + len(data) > most:
            raise FileTooLarge(most)
        with reached():
            await self._begin()
            await self._writer.write(data)

    async def finish(self, *, filename: str, purpose: Purpose, expires_in: float | None) -> File:
        """It is there. `expires_in`: seconds; a batch's expires in any case. Raises StorageFull."""
        lasts = BATCH_FILE_SECONDS if expires_in is None and purpose == "batch" else expires_in
        created = self._file.created_at
        file = replace(
            self._file, filename=filename, purpose=purpose, size=self._writer.size, state="ready",
            expires_at=None if lasts is None else created + lasts,
        )  # fmt: skip
        with reached():
            await self._begin()
            await self._writer.close()
            await self._store.finish(file, most=self._settings.max_total_bytes)
        self._done = True
        return file

    async def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            # Twice the time: whoever is still at work then was cut off by the deadline long ago.
            await self._store.begin(self._file, until=self._file.created_at + 2 * self._settings.upload_seconds)

    async def _take_back(self) -> None:
        try:
            await self._writer.abort()
            await self._store.delete(self._file, until=self._clock.time())
            await self._objects.remove([self._file.at])
            await self._store.forget(self._file)
        except StateUnavailable as error:
            log.warning("what was left of an upload is removed later: %s", error)


async def to_its_end(work: Callable[[], Awaitable[object]]) -> None:
    """Do it even where this task is cancelled meanwhile; that comes through once it is done."""
    task = asyncio.ensure_future(work())
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait((task,))
        if not task.cancelled():
            task.exception()  # whoever cancels does not want to know
        raise


@contextlib.contextmanager
def reached() -> Iterator[None]:
    """Callers are told that the state cannot be reached, the operator in the log why."""
    try:
        yield
    except StateUnavailable as error:
        log.error("files and batches cannot be reached: %s", error)
        raise StorageUnavailable from error
