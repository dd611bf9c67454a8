"""A worker's hold on its batch: every change is written under the condition that nobody else's worker came since."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

from infra.aws import StateUnavailable
from web.batches import LEASE_SECONDS, MOST_TRIES, BatchConflict

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import TypeVar

    from web.batches import Batch, BatchStore
    from web.clock import Clock

    Answer = TypeVar("Answer")

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 600.0
"""How long a worker tries to reach the state; then it gives up, and the next one goes on."""
LONGEST_PAUSE = 15.0


class LeaseLost(Exception):
    """Another worker has the batch, or nobody is to have it."""


class Lease:
    """`batch`: as it is kept, as far as this worker knows."""

    def __init__(self, store: BatchStore, batch: Batch, *, clock: Clock) -> None:
        self.batch = batch
        self._store = store
        self._clock = clock
        self._writing = asyncio.Lock()
        self.patience = PATIENCE_SECONDS

    @classmethod
    async def take(cls, store: BatchStore, owner: str, batch_id: str, *, clock: Clock) -> Lease | None:
        """None where somebody is at work, or there is nothing to do. Raises StateUnavailable."""
        while (batch := await store.load(owner, batch_id)) is not None:
            now = clock.time()
            if batch.swept or (batch.leased_until > now and not batch.called):
                return None
            taken = replace(
                next_version(batch, until=now + LEASE_SECONDS), tries=batch.tries + 1,
                workers=(*batch.workers, (secrets.token_hex(6), batch.parts)),
            )  # fmt: skip
            try:
                await store.save(taken)
            except BatchConflict:
                continue
            return cls(store, taken, clock=clock)
        return None

    @property
    def suspected(self) -> bool:
        """So many workers died over it that it is the batch."""
        return self.batch.tries > MOST_TRIES

    async def change(self, changed: Callable[[Batch], Batch], *, ends: bool = False) -> Batch:
        """Keep what `changed` makes of the batch as it is by then, and renew the lease. `ends`: it was unfinished
        before and is not afterwards. Raises LeaseLost, StateUnavailable."""
        async with self._writing:
            while True:
                before = self.batch
                until = self._clock.time() + LEASE_SECONDS
                batch = next_version(changed(before), until=until)
                try:
                    await self.insist(lambda: (self._store.end if ends else self._store.save)(batch))  # noqa: B023
                except BatchConflict:
                    await self._look_again(before.worker)
                else:
                    self.batch = batch
                    return batch

    async def leave(self) -> None:
        """Let the next worker take it at once. Raises nothing: it comes a little later otherwise."""
        batch = next_version(self.batch, until=self._clock.time())
        try:
            await self._store.save(batch)
        except (BatchConflict, StateUnavailable) as error:
            log.info("the lease of batch %s was not given back: %r", batch.id, error)

    async def insist(self, work: Callable[[], Awaitable[Answer]]) -> Answer:
        """Its answer, from DynamoDB or S3, which may be away for a while. Raises StateUnavailable."""
        began, tries = self._clock.monotonic(), 0
        while True:
            try:
                return await work()
            except StateUnavailable as error:
                if self._clock.monotonic() - began >= self.patience:
                    raise
                log.warning("batch %s waits for what keeps it: %s", self.batch.id, error)
            tries += 1
            await self._clock.sleep(random.uniform(0.5, 1.0) * min(LONGEST_PAUSE, 0.5 * 2.0 ** min(tries, 8)))

    async def _look_again(self, worker: str) -> None:
        kept = await self.insist(lambda: self._store.load(self.batch.owner, self.batch.id))
        if kept is None or kept.worker != worker:
            raise LeaseLost
        self.batch = kept


def next_version(batch: Batch, *, until: float, called: bool = False) -> Batch:
    """Of the batch, leased until then."""
    return replace(
        batch, version=batch.version + 1, mark=secrets.token_hex(8), leased_until=until, called=called
    )  # fmt: skip
