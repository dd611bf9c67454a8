"""Batches that are worked on in the service's own process: where there are no containers to be had for them."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from web.errors import ServiceError

if TYPE_CHECKING:
    from web.batch_requests import BatchRequests
    from web.batch_worker import BatchWorker
    from web.batches import Batch
    from web.clock import Clock
    from web.files import Files

log = logging.getLogger(__name__)

LOOK_SECONDS = 30.0
"""How often it is looked for batches without a worker, and files whose time has come."""
LOOKED_AT = 100


class LocalBatches:
    """A `BatchRunner`. For one event loop; made without one."""

    def __init__(self, *, at_once: int, clock: Clock) -> None:
        """`at_once`: batches that are worked on; others wait."""
        self._worker: BatchWorker | None = None
        self._at_once = at_once
        self._clock = clock
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._nudges: dict[str, asyncio.Event] = {}
        self._places: asyncio.Semaphore | None = None
        self._keeper: asyncio.Task[None] | None = None

    def take(self, worker: BatchWorker) -> None:
        self._worker = worker

    async def start(self, batch: Batch) -> None:
        if batch.id not in self._tasks:
            self._places = self._places or asyncio.Semaphore(self._at_once)
            self._nudges[batch.id] = asyncio.Event()
            self._tasks[batch.id] = asyncio.create_task(self._work(batch, self._places), name=batch.id)

    def nudge(self, batch: Batch) -> None:
        if (nudged := self._nudges.get(batch.id)) is not None:
            nudged.set()

    def begin(self, requests: BatchRequests, files: Files) -> None:
        """Go on with what an earlier process has left, and clear away what has expired, until `close`."""
        self._keeper = asyncio.create_task(self._keep(requests, files), name="batches")

    async def close(self) -> None:
        """What has been answered is kept, and the batches are left to whoever comes next."""
        tasks = [*self._tasks.values(), *([self._keeper] if self._keeper is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _work(self, batch: Batch, places: asyncio.Semaphore) -> None:
        assert self._worker is not None
        try:
            async with places:
                await self._worker.run(batch.owner, batch.id, nudged=self._nudges[batch.id])
        except Exception:
            log.exception("batch %s was left by its worker, and goes on later", batch.id)
        finally:
            del self._tasks[batch.id], self._nudges[batch.id]

    async def _keep(self, requests: BatchRequests, files: Files) -> None:
        while True:
            try:
                await requests.call_for_due(limit=LOOKED_AT)
                await files.sweep()
            except ServiceError as error:
                log.warning("batches and files are looked after later: %s", error)
            await self._clock.sleep(LOOK_SECONDS)
