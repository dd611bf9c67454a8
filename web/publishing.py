"""A container's metrics, written down on a timer and at its end, and read as the sum over all containers.

A request costs no call. A container that is killed loses what it counted since it last wrote: in
`metrics.publish_interval` seconds at most. Whoever asks for the sum has this container's numbers written first: so what
one container has told is in what the next one tells, and no counter goes backwards, whichever a scrape reaches.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from infra.aws import StateUnavailable
from infra.metric_rows import Row
from infra.metric_snapshots import less, total, without_gauges
from infra.metrics_table import Superseded

if TYPE_CHECKING:
    from collections.abc import Callable

    from infra.metric_rows import Reading
    from infra.metric_snapshots import Snapshot
    from web.clock import Clock

log = logging.getLogger(__name__)

FOLD_SECONDS = 300.0
"""How often a web container looks after what dead ones have left, about."""
READ_SECONDS = 0.25
"""Between two readings of one container: those who come meanwhile share the next."""
LAST_TRIES = 3


class MetricsStore(Protocol):
    """As `infra.metrics_table` is. Every method may raise StateUnavailable."""

    async def write(self, row: Row, *, new: bool, again: bool = False) -> None:
        """Put a row in the place of its earlier version. Raises Superseded."""

    async def read(self) -> Reading:
        """All rows."""

    async def fold(self, *, now: float) -> int:
        """Look after what is left of dead containers."""


@dataclass
class _Writer:
    """One row, as far as it is written. `pending`: what was tried and not answered: it is there, or it is not."""

    name: str
    written: Row | None = None
    pending: Row | None = None

    def sealed(self, version: int | None) -> Row | None:
        """What of it counts, now that it takes nothing more."""
        if self.pending is not None and self.pending.version == version:
            return self.pending
        return self.written


class Publisher:
    """Belongs to one event loop once it begins; made without one, so that a memory snapshot may hold it."""

    def __init__(
        self, store: MetricsStore, snapshot: Callable[[], Snapshot], *, clock: Clock, interval: float,
        folds: bool = False, failed: Callable[[], object] = lambda: None,
    ) -> None:  # fmt: skip
        """`snapshot`: all that this container has counted until now. `folds`: whether it looks after dead containers'
        rows too. `failed`: is called when nothing could be written."""
        self._store = store
        self._snapshot = snapshot
        self._clock = clock
        self._interval = interval
        self._folds = folds
        self._failed = failed
        self._writer: _Writer | None = None
        """No name may be made up before a memory snapshot."""
        self._settled: Snapshot = {}
        """What is in rows that were sealed, of earlier writers."""
        self._lock = asyncio.Lock()
        self._reading = asyncio.Lock()
        self._next: asyncio.Task[Snapshot] | None = None
        self._read_at = -READ_SECONDS
        self._timer: asyncio.Task[None] | None = None
        self._failing = False

    def begin(self) -> None:
        """Write on a timer from now on. The first time after one interval: a container that starts has other things
        to do."""
        self._timer = asyncio.create_task(self._run(), name="metrics")

    async def close(self) -> None:
        """Write the last time."""
        if self._timer is not None:
            self._timer.cancel()
            await asyncio.wait((self._timer,))
        for tried in range(1, LAST_TRIES + 1):
            try:
                await self.publish(last=True)
            except StateUnavailable as error:
                if tried == LAST_TRIES:
                    log.error("metrics of the last %.0f s are lost: %s", self._interval, error)
            else:
                return

    async def publish(self, *, last: bool = False) -> None:
        """Write what was counted until now. Raises StateUnavailable."""
        async with self._lock:
            if (pending := self._open().pending) is not None:
                await self._write(pending)
            while not await self._write(self._row(ended=last)):
                pass

    async def total(self) -> Snapshot:
        """The sum over all containers, this one's numbers of now included. Raises StateUnavailable."""
        if self._next is None:
            self._next = asyncio.create_task(self._read(), name="metrics of all")
            self._next.add_done_callback(lambda task: task.cancelled() or task.exception())
        return await asyncio.shield(self._next)

    async def _read(self) -> Snapshot:
        async with self._reading:
            if (early := self._read_at + READ_SECONDS - self._clock.monotonic()) > 0:
                await self._clock.sleep(early)
            self._read_at = self._clock.monotonic()
            self._next = None  # what is counted from now on is for the next
            await self.publish()
            reading = await self._store.read()
            # Some milliseconds for each container, in which the loop has streams to serve.
            return await asyncio.to_thread(reading.total, self._clock.time())

    async def _run(self) -> None:
        fold_at = self._clock.monotonic() + FOLD_SECONDS * random.uniform(0.5, 1.5)
        while True:
            await self._clock.sleep(self._interval)
            try:
                await self.publish()
                if self._folds and self._clock.monotonic() >= fold_at:
                    fold_at = self._clock.monotonic() + FOLD_SECONDS * random.uniform(0.5, 1.5)
                    await self._store.fold(now=self._clock.time())
            except StateUnavailable as error:
                if not self._failing:
                    log.error("metrics cannot be written now, and are kept here meanwhile: %s", error)
                self._failing = True
                self._failed()
            except Exception:
                log.exception("metrics were not written")
                self._failed()
            else:
                self._failing = False

    def _open(self) -> _Writer:
        if self._writer is None:
            self._writer = _Writer(secrets.token_hex(8))
        return self._writer

    def _row(self, *, ended: bool) -> Row:
        writer = self._open()
        version = 1 if writer.written is None else writer.written.version + 1
        snapshot = self._snapshot()
        if self._settled:
            snapshot = less(snapshot, self._settled)
        return Row(writer.name, version, snapshot, self._clock.time(), self._interval, ended=ended)

    async def _write(self, row: Row) -> bool:
        """Whether it is written; else there is a new row to be written into."""
        writer = self._open()
        again, writer.pending = writer.pending is row, row
        try:
            await self._store.write(row, new=writer.written is None, again=again)
        except Superseded as sealed:
            kept = writer.sealed(sealed.version)
            log.info("this container was taken for dead; its metrics go on in a new row")
            if kept is not None:
                self._settled = total([self._settled, without_gauges(kept.snapshot)])
            self._writer = None
            return False
        writer.written, writer.pending = row, None
        return True
