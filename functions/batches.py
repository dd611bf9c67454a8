"""Batches on Modal: each is worked on by a container of its own, which whoever has seen that it is needed calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

import modal

from functions.state import file_storage
from web.batch_requests import BatchRequests
from web.files import Files

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from functions.shared import SharedState
    from infra.settings import Settings
    from web.batch_worker import BatchWorker
    from web.batches import Batch
    from web.clock import Clock

FUNCTION = "batch"
"""What works on a batch, in app.py."""
RETRIES = modal.Retries(max_retries=5, initial_delay=5.0, backoff_coefficient=2.0)
"""Of a container that died: the next one goes on."""
PORTION = 100
"""Batches that one run of the housekeeping calls workers for at most."""


class SpawnedBatches:
    """A `BatchRunner`. Asks Modal for nothing before the first batch, so that a memory snapshot can hold it."""

    def __init__(self, settings: Settings) -> None:
        self._app = settings.deploy.app_name

    def take(self, worker: BatchWorker) -> None: ...

    async def start(self, batch: Batch) -> None:
        """Raises what Modal's client does."""
        function: modal.Function[..., bool, bool] = modal.Function.from_name(self._app, FUNCTION)
        await function.spawn.aio(batch.owner, batch.id)

    def nudge(self, batch: Batch) -> None:
        """Its worker looks by itself, every few seconds."""


def batch_jobs(settings: Settings, state: SharedState, clock: Clock) -> dict[str, Callable[[], Awaitable[int]]]:
    """The housekeeping of files and batches."""
    storage = file_storage(state, clock)
    assert storage is not None
    files = Files(storage.files, storage.objects, settings=settings.files, clock=clock)
    requests = BatchRequests(
        storage.batches, SpawnedBatches(settings), files, settings=settings.batches, clock=clock
    )  # fmt: skip
    return {"batches": lambda: requests.call_for_due(limit=PORTION), "files": files.sweep}
