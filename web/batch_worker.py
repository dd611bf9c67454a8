"""A batch's worker: checks the input, has its lines answered, writes its files. Killed anywhere, the next one goes on.

    validating    the input is copied, and every line looked at
    in_progress   lines are asked, many at once; results are kept in parts, with which their lines are done
    finalizing    the parts are put together to an output file and an error file

What was asked and not yet kept ends with a worker: such lines are asked again, and their answers are told once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from infra.aws import ObjectMissing
from web.batch_files import named, write_files
from web.batch_lease import Lease, LeaseLost
from web.batch_lines import BREATH, CANCELLED, EXPIRED, Checker, LineTooLong, lines_of, others_turn
from web.batch_work import Work
from web.batches import BatchError, caller_again
from web.files import object_name, to_its_end
from web.record import Record, recorded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infra.settings import Settings
    from web.batches import Batch, Status, Storage
    from web.clock import Clock
    from web.line_requests import Asker

log = logging.getLogger(__name__)

BEAT_SECONDS = 10.0
"""How often a worker shows that it lives, and looks whether it is to stop."""
WORKED_ON: frozenset[Status] = frozenset({"in_progress", "cancelling"})


class BatchWorker:
    def __init__(
        self, storage: Storage, ask: Asker, *, settings: Settings, clock: Clock, containers: int | None = None
    ) -> None:
        """`containers`: how many engines of one model there can be; None: as many as its scaling allows."""
        self._storage = storage
        self._ask = ask
        self._settings = settings
        self._clock = clock
        self._containers = containers

    async def run(self, owner: str, batch_id: str, *, nudged: asyncio.Event | None = None) -> bool:
        """Work on a batch until nothing of it is left to do. False: somebody else does, or nobody needs to. `nudged`:
        set by who wants it to be looked at anew. Cancelled, or raising StateUnavailable where that has lasted, it lets
        the next worker take over at once."""
        with recorded(Record(batch_id=batch_id)) as record:
            return await self._run(owner, batch_id, nudged, record)

    async def _run(self, owner: str, batch_id: str, nudged: asyncio.Event | None, record: Record) -> bool:
        lease = await Lease.take(self._storage.batches, owner, batch_id, clock=self._clock)
        if lease is None:
            return False
        record.cause = lease.batch.cause
        log.info("batch %s (%s) has the worker %s", batch_id, lease.batch.status, lease.batch.worker)
        try:
            await _BatchRun(self, lease, nudged or asyncio.Event()).run()
        except LeaseLost:
            log.warning("batch %s was taken by another worker", batch_id)
            return False
        except BaseException:
            await to_its_end(lease.leave)
            raise
        batch = lease.batch
        tokens = {"prompt_tokens": batch.tokens.input, "completion_tokens": batch.tokens.output}
        lines = {"lines_completed": batch.completed, "lines_failed": batch.failed}
        log.info("batch %s is %s", batch_id, batch.status, extra={**lines, **tokens})
        return True

    def run_of(self, lease: Lease) -> Work:
        """The lines of that batch."""
        batch = lease.batch
        return Work(
            lease, self._storage.objects, self._ask, settings=self._settings, clock=self._clock,
            concurrency=self._concurrency(batch),
        )  # fmt: skip

    @property
    def parts(self) -> tuple[Storage, Settings, Clock]:
        return self._storage, self._settings, self._clock

    def _concurrency(self, batch: Batch) -> int:
        """How many lines are asked at once."""
        configured = self._settings.batches.concurrency
        model = self._settings.models.find(batch.model or "")
        if configured is not None or model is None:
            return configured or 1
        containers = self._containers or model.scaling.max_containers
        return model.concurrency(self._settings.models) * containers


class _BatchRun:
    """One worker's time with one batch."""

    def __init__(self, worker: BatchWorker, lease: Lease, nudged: asyncio.Event) -> None:
        self._worker = worker
        self._lease = lease
        self._nudged = nudged
        self._storage, self._settings, self._clock = worker.parts
        self._work: Work | None = None

    async def run(self) -> None:
        beat = asyncio.create_task(self._beat(), name=f"heart of {self._lease.batch.id}")
        steps = asyncio.create_task(self._steps(), name=f"work on {self._lease.batch.id}")
        try:
            await asyncio.wait((beat, steps), return_when=asyncio.FIRST_COMPLETED)
            await (steps if steps.done() else beat)  # a heart stops only by an error
        finally:
            for task in (beat, steps):
                task.cancel()
            await asyncio.gather(beat, steps, return_exceptions=True)

    async def _beat(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with self._clock.timeout(BEAT_SECONDS):
                    await self._nudged.wait()
            self._nudged.clear()
            await self._lease.change(lambda one: one)
            self._stop_in_time()

    def _stop_in_time(self) -> None:
        batch = self._lease.batch
        if self._work is None:
            return
        if batch.status == "cancelling":
            self._work.stop(*CANCELLED)
        elif self._clock.time() >= batch.expires_at:
            self._work.stop(*EXPIRED)

    async def _steps(self) -> None:
        lease = self._lease
        if lease.batch.unfinished and lease.suspected:
            await self._fail([BatchError(code="worker_failed", message="Working on it has failed again and again.")])
        if lease.batch.status == "validating":
            await self._validate()
        if lease.batch.status in WORKED_ON and lease.batch.total:
            self._work = self._worker.run_of(lease)
            self._stop_in_time()
            await self._work.run()
        if lease.batch.unfinished:
            await self._finish()
        await self._sweep()

    async def _validate(self) -> None:
        lease, batch = self._lease, self._lease.batch
        source = object_name(batch.owner, batch.input_file_id)
        try:
            await lease.insist(lambda: self._storage.objects.copy(source, batch.input_at))
            checker = await lease.insist(self._check)
        except ObjectMissing:
            await self._fail([BatchError(code="input_file_deleted", message="The input file was deleted.")])
            return
        if checker.errors:
            await self._fail(checker.errors)
            return

        def checked(one: Batch) -> Batch:
            if one.status != "validating":
                return one
            return one.became("in_progress", self._clock.time(), total=checker.total, model=checker.model)

        await lease.change(checked)

    async def _check(self) -> Checker:
        batch, longest = self._lease.batch, self._settings.web.max_body_bytes
        checker = Checker(
            endpoint=batch.endpoint, caller=caller_again(batch.caller), models=self._settings.models,
            most=self._settings.batches.max_lines,
        )  # fmt: skip
        try:
            async for line in lines_of(self._storage.objects, batch.input_at, longest=longest):
                checker.look(line)
                if checker.hopeless or self._lease.batch.status != "validating":
                    break
                if line.place % BREATH == 0:
                    await others_turn()
        except LineTooLong as error:
            message = f"A line has more than {longest} bytes."
            checker.errors.append(BatchError(code="line_too_long", message=message, line=error.number))
        checker.end()
        return checker

    async def _fail(self, errors: Sequence[BatchError]) -> None:
        def failed(one: Batch) -> Batch:
            if one.status == "cancelling":
                return one.became("cancelled", self._clock.time())
            return one.became("failed", self._clock.time(), errors=tuple(errors))

        await self._lease.change(failed, ends=True)

    async def _finish(self) -> None:
        """First the files, then the last status: whoever sees that looks for them."""

        def finalizing(one: Batch) -> Batch:
            one = named(one, self._clock.time())
            return one.became("finalizing", self._clock.time()) if one.status == "in_progress" else one

        def finished(one: Batch) -> Batch:
            if one.status == "cancelling":
                return one.became("cancelled", self._clock.time())
            return one.became("expired" if one.expired else "completed", self._clock.time())

        await self._lease.change(finalizing)
        await write_files(self._lease, self._storage, clock=self._clock)
        await self._lease.change(finished, ends=True)

    async def _sweep(self) -> None:
        """Nothing is left but its record and its files."""
        litter = self._lease.batch.litter()
        await self._lease.insist(lambda: self._storage.objects.remove(litter))
        await self._lease.change(lambda one: replace(one, swept=True))
