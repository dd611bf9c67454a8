"""What callers do with their batches: made, looked at, cancelled. Workers are called for, never waited for."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from web.batch_lease import next_version
from web.batches import START_SECONDS, WINDOW_SECONDS, Batch, BatchConflict, kept_caller
from web.errors import InvalidRequest
from web.file_errors import BatchNotFound, FileNotFound, StorageUnavailable
from web.files import SANE_ID, new_id, reached
from web.record import traceparent
from web.sessions import owner_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infra.batching import Batches as BatchesSettings
    from web.batches import BatchRunner, BatchStore
    from web.caller import Caller
    from web.clock import Clock
    from web.dialects.batches import NewBatch
    from web.files import Files

log = logging.getLogger(__name__)

CANCELLABLE = frozenset({"validating", "in_progress"})
CONFLICTS = 8
"""How often a change is tried that a worker's comes before."""


class BatchRequests:
    """Every method may raise StorageUnavailable."""

    def __init__(
        self, store: BatchStore, runner: BatchRunner, files: Files, *, settings: BatchesSettings, clock: Clock
    ) -> None:
        self._store = store
        self._runner = runner
        self._files = files
        self._settings = settings
        self._clock = clock

    async def create(self, caller: Caller, wanted: NewBatch) -> Batch:
        """Raises InvalidRequest, TooManyBatches."""
        owner, now = owner_of(caller), self._clock.time()
        await self._check_input(owner, wanted.input_file_id)
        expiry = wanted.output_expires_after
        batch = Batch(
            owner=owner, id=new_id("batch_", now), endpoint=wanted.endpoint, input_file_id=wanted.input_file_id,
            caller=kept_caller(caller, traceparent=traceparent()), created_at=now, expires_at=now + WINDOW_SECONDS,
            metadata=wanted.metadata, output_seconds=None if expiry is None else expiry.seconds,
            leased_until=now + START_SECONDS,
        )  # fmt: skip
        with reached():
            await self._store.create(batch, most=self._settings.max_unfinished)
        await self._start(batch)
        return batch

    async def get(self, owner: str, batch_id: str) -> Batch:
        """Raises BatchNotFound. One that has lost its worker gets another: whoever looks at it wants it done."""
        with reached():
            batch = await self._store.load(owner, batch_id) if SANE_ID.fullmatch(batch_id) else None
        if batch is None:
            raise BatchNotFound(batch_id)
        return await self.call_for(batch) if batch.unfinished else batch

    async def listed(self, owner: str, *, after: str | None, limit: int) -> Sequence[Batch]:
        with reached():
            return await self._store.listed(owner, after=after, limit=limit)

    async def cancel(self, owner: str, batch_id: str) -> Batch:
        """Raises BatchNotFound, InvalidRequest."""
        for _ in range(CONFLICTS):
            batch = await self.get(owner, batch_id)
            if batch.status in ("cancelling", "cancelled"):
                return batch
            if batch.status not in CANCELLABLE:
                message = f"Cannot cancel a batch with status '{batch.status}'."
                raise InvalidRequest(message, param="batch_id", code="batch_not_cancellable")
            cancelling = batch.became("cancelling", self._clock.time())
            changed = next_version(cancelling, until=batch.leased_until, called=batch.called)
            try:
                with reached():
                    await self._store.save(changed)
            except BatchConflict:
                continue
            self._runner.nudge(changed)
            return changed
        raise StorageUnavailable

    async def call_for(self, batch: Batch) -> Batch:
        """Call a worker for one that has none. Whoever else finds it at the same time does not."""
        now = self._clock.time()
        if batch.swept or batch.leased_until > now:
            return batch
        called = next_version(batch, until=now + START_SECONDS, called=True)
        try:
            with reached():
                await self._store.save(called)
        except BatchConflict:
            return batch
        await self._start(called)
        return called

    async def call_for_due(self, *, limit: int) -> int:
        """Likewise for all that there are, at most so many: how many."""
        with reached():
            due = await self._store.due(before=self._clock.time(), limit=limit)
        for batch in due:
            await self.call_for(batch)
        return len(due)

    async def _start(self, batch: Batch) -> None:
        try:
            await self._runner.start(batch)
        except Exception:
            log.exception("no worker could be called for batch %s; one is called in %.0f s", batch.id, START_SECONDS)

    async def _check_input(self, owner: str, file_id: str) -> None:
        try:
            file = await self._files.get(owner, file_id)
        except FileNotFound as error:
            raise InvalidRequest(error.message, param="input_file_id", code="file_not_found") from None
        most = self._settings.max_input_bytes
        if file.purpose != "batch":
            message = f"The input file must have the purpose 'batch', not '{file.purpose}'."
            raise InvalidRequest(message, param="input_file_id", code="invalid_purpose")
        if file.size > most:
            message = f"The input file is larger than {most} bytes."
            raise InvalidRequest(message, param="input_file_id", code="file_too_large")
