"""Files and batches of one application: what callers ask of them, and, where nobody else does it, their workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from web.batch_requests import BatchRequests
from web.batch_runner import LocalBatches
from web.batch_worker import BatchWorker
from web.line_requests import InProcess

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from web.batches import Storage
    from web.files import Files
    from web.services import Services


class BatchService:
    """Made without a loop."""

    def __init__(self, services: Services, storage: Storage, files: Files, lines: ASGIApp) -> None:
        """`lines`: what answers the requests in batches; who asks is in their scopes."""
        settings, clock = services.settings, services.clock
        ask = InProcess(lines, clock=clock, tracing=services.tracing)
        worker = BatchWorker(storage, ask, settings=settings, clock=clock, containers=services.engine_containers)
        self.files = files
        self._local = (
            LocalBatches(at_once=settings.batches.max_containers, clock=clock) if storage.runner is None else None
        )
        runner = storage.runner or self._local
        assert runner is not None
        runner.take(worker)
        self.requests = BatchRequests(storage.batches, runner, files, settings=settings.batches, clock=clock)

    def begin(self) -> None:
        """To be called on the loop, once it serves."""
        if self._local is not None:
            self._local.begin(self.requests, self.files)

    async def close(self) -> None:
        if self._local is not None:
            await self._local.close()
