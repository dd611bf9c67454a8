"""The container that works on one batch: the same application as the web endpoint's, asked from within."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from functions.batches import SpawnedBatches
from functions.endpoint import services_of
from functions.logs import configure_logging
from infra.configuration import load_settings
from web.application import create_application
from web.batches import LEASE_SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    import modal
    from starlette.types import ASGIApp

    from web.batch_worker import BatchWorker
    from web.batches import Batch

MARGIN_SECONDS = 60
"""Before Modal ends the container: to keep what there is, and to call the next one."""

log = logging.getLogger(__name__)


class WorkerHere:
    """A `BatchRunner` that keeps the application's worker for who runs it himself."""

    worker: BatchWorker

    def take(self, worker: BatchWorker) -> None:
        self.worker = worker

    async def start(self, batch: Batch) -> None:
        raise RuntimeError(f"this container works on one batch, and was asked for {batch.id}")

    def nudge(self, batch: Batch) -> None: ...


async def work(owner: str, batch_id: str, servers: Mapping[str, modal.Server]) -> bool:
    """Whether this container has brought the batch to its end. Raises StateUnavailable, and whatever nobody expects:
    Modal tries again then."""
    settings = load_settings()
    configure_logging(settings)
    here = WorkerHere()
    services = await asyncio.to_thread(services_of, settings, servers, coalesce_seconds=0.0, runner=here)
    assert services.storage is not None
    async with serving(create_application(services)):
        try:
            async with asyncio.timeout(settings.batches.timeout - MARGIN_SECONDS):
                if await here.worker.run(owner, batch_id):
                    return True
                # Whoever has it may be dead. Its lease is over by then if so, and renewed if not.
                batch = await services.storage.batches.load(owner, batch_id)
                if batch is None or batch.swept:
                    return False
                await asyncio.sleep(LEASE_SECONDS + 1)
                return await here.worker.run(owner, batch_id)
        except TimeoutError:
            batch = await services.storage.batches.load(owner, batch_id)
            if batch is not None and not batch.swept:
                log.info("batch %s goes on in another container", batch_id)
                await SpawnedBatches(settings).start(batch)
            return False


@contextlib.asynccontextmanager
async def serving(application: ASGIApp) -> AsyncIterator[None]:
    """The application's lifespan, without a server."""
    # Not at import: the web function, which starts from the same file, has no use for it.
    import uvicorn

    config = uvicorn.Config(application, lifespan="on", log_config=None)
    config.load()
    lifespan = config.lifespan_class(config)
    await lifespan.startup()
    try:
        yield
    finally:
        await lifespan.shutdown()
