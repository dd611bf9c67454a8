"""What every store of batches must do, in memory and in the table; and a lease over it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from infra.aws import StateUnavailable
from tests.aws_kit import StateOfTest
from tests.web.doubles import HandClock
from web.batch_lease import Lease, LeaseLost, next_version
from web.batch_store import BatchesInMemory
from web.batch_table import BatchesInTable
from web.batches import LEASE_SECONDS, START_SECONDS, Batch, BatchConflict, BatchError, BatchStore, Tokens
from web.file_errors import TooManyBatches
from web.files import new_id


@pytest.fixture(params=["memory", "table"])
def store(request: pytest.FixtureRequest, clock: HandClock) -> BatchStore:
    if request.param == "memory":
        return BatchesInMemory()
    state: StateOfTest = request.getfixturevalue("aws_state")
    return BatchesInTable(state.table, clock=clock)


def batch_of(clock: HandClock, **more: Any) -> Batch:
    clock.advance(1)
    now = clock.time()
    given = {"owner": "key:a", "caller": {"identity": "key:a", "scopes": ["inference"]}, **more}
    return Batch(
        id=new_id("batch_", now), endpoint="/v1/completions", input_file_id="file-1", created_at=now,
        expires_at=now + 86400, **{"leased_until": now + START_SECONDS, **given},
    )  # fmt: skip


def later(batch: Batch, **changes: Any) -> Batch:
    return replace(next_version(batch, until=batch.leased_until), **changes)


async def test_a_batch_is_there_as_it_was_kept(store: BatchStore, clock: HandClock) -> None:
    batch = batch_of(
        clock, metadata={"ä": "€"}, times={"in_progress_at": 1.5}, errors=(BatchError(code="c", message="m", line=3),),
        tokens=Tokens(input=1, output=2), workers=(("w", 0), ("v", 2)), parts=3, total=9, done=b"\xff\x01",
    )  # fmt: skip
    await store.create(batch, most=9)
    assert await store.load("key:a", batch.id) == batch
    assert await store.load("key:b", batch.id) is None


async def test_only_the_next_version_takes_its_place(store: BatchStore, clock: HandClock) -> None:
    batch = batch_of(clock)
    await store.create(batch, most=9)
    await store.save(second := later(batch, parts=1))
    for other in (later(batch), batch, replace(batch, version=9)):
        with pytest.raises(BatchConflict):
            await store.save(other)
    assert await store.load("key:a", batch.id) == second


async def test_a_save_whose_answer_was_lost_may_be_tried_again(aws_state: StateOfTest, clock: HandClock) -> None:
    store = BatchesInTable(aws_state.table, clock=clock)
    batch = batch_of(clock)
    await store.create(batch, most=9)
    second = later(batch, parts=1)
    await store.save(second)
    await store.save(second)
    await store.end(third := later(second, status="completed"))
    await store.end(third)
    for _ in range(2):
        await store.create(batch_of(clock), most=2)
    with pytest.raises(TooManyBatches):  # one that has ended counts no more, once
        await store.create(batch_of(clock), most=2)


async def test_an_owner_has_only_so_many_unfinished_ones(store: BatchStore, clock: HandClock) -> None:
    batch = batch_of(clock)
    await store.create(batch, most=1)
    with pytest.raises(TooManyBatches):
        await store.create(batch_of(clock), most=1)
    await store.create(batch_of(clock, owner="key:b"), most=1)
    await store.end(later(batch, status="completed"))
    await store.create(batch_of(clock), most=1)


async def test_they_are_listed_the_newest_first_and_due_when_their_lease_is_over(
    store: BatchStore, clock: HandClock
) -> None:
    batches = [batch_of(clock) for _ in range(3)]
    for batch in (*batches, batch_of(clock, owner="key:b", leased_until=clock.time() + 10**6)):
        await store.create(batch, most=9)
    assert await store.listed("key:a", after=None, limit=9) == batches[::-1]
    assert await store.listed("key:a", after=batches[1].id, limit=9) == batches[:1]
    assert list(await store.due(before=clock.time(), limit=9)) == []
    await store.end(gone := later(batches[0], status="completed"))
    assert [one.id for one in await store.due(before=clock.time() + START_SECONDS, limit=9)] == [b.id for b in batches]
    await store.save(later(gone, swept=True))
    due = await store.due(before=clock.time() + START_SECONDS, limit=9)
    assert [one.id for one in due] == [b.id for b in batches[1:]]


async def lease_of(store: BatchStore, batch: Batch, clock: HandClock) -> Lease | None:
    return await Lease.take(store, batch.owner, batch.id, clock=clock)


async def test_one_worker_has_a_batch_until_its_lease_is_over(store: BatchStore, clock: HandClock) -> None:
    batch = batch_of(clock)
    await store.create(batch, most=9)
    taken = [one for one in await asyncio.gather(*(lease_of(store, batch, clock) for _ in range(3))) if one is not None]
    assert len(taken) == 1
    first = taken[0]
    clock.advance(LEASE_SECONDS - 1)
    await first.change(lambda one: one)
    clock.advance(LEASE_SECONDS - 1)
    assert await lease_of(store, batch, clock) is None
    clock.advance(1)
    second = await lease_of(store, batch, clock)
    assert second is not None
    with pytest.raises(LeaseLost):
        await first.change(lambda one: replace(one, parts=99))
    kept = await store.load(batch.owner, batch.id)
    assert kept is not None
    assert (kept.parts, len(kept.workers), kept.tries) == (0, 2, 2)


async def test_a_worker_takes_in_what_its_caller_has_changed_meanwhile(store: BatchStore, clock: HandClock) -> None:
    batch = batch_of(clock)
    await store.create(batch, most=9)
    lease = await lease_of(store, batch, clock)
    assert lease is not None
    await store.save(later(lease.batch, status="cancelling"))
    changed = await lease.change(lambda one: replace(one, parts=one.parts + 1))
    assert (changed.status, changed.parts) == ("cancelling", 1)
    assert await store.load(batch.owner, batch.id) == changed


async def test_a_change_is_done_once_though_its_answer_was_lost(clock: HandClock) -> None:
    class Losing(BatchesInMemory):
        lost = 0

        async def save(self, batch: Batch) -> None:
            kept = await self.load(batch.owner, batch.id)
            if kept is not None and kept.mark == batch.mark:
                return  # as the table does: it knows its own again
            await super().save(batch)
            if batch.parts and not self.lost:
                self.lost += 1
                raise StateUnavailable("lost")

    store = Losing()
    batch = batch_of(clock)
    await store.create(batch, most=9)
    lease = await lease_of(store, batch, clock)
    assert lease is not None
    change = asyncio.create_task(lease.change(lambda one: replace(one, parts=one.parts + 1)))
    while not change.done():
        await asyncio.sleep(0)
        clock.advance(1)
    assert (await change).parts == 1
    assert store.lost == 1


async def test_of_a_worker_that_gives_its_lease_back_the_next_one_takes_it_at_once(
    store: BatchStore, clock: HandClock
) -> None:
    batch = batch_of(clock)
    await store.create(batch, most=9)
    lease = await lease_of(store, batch, clock)
    assert lease is not None
    await lease.leave()
    assert await lease_of(store, batch, clock) is not None


def test_the_names_of_parts_follow_from_who_worked_on_a_batch() -> None:
    batch = batch_of(HandClock(), workers=(("a", 0), ("b", 0), ("c", 2)), parts=3)
    names = [name.rpartition("/")[2] for name in batch.parts_at()]
    assert names == ["000000-b", "000001-b", "000002-c"]
    left = {name.rpartition("/")[2] for name in batch.litter()}
    assert left == {"input", "000000-a", "000000-b", "000001-b", "000002-b", "000002-c", "000003-c"}


def test_the_lines_that_are_done_are_bits() -> None:
    batch = batch_of(HandClock(), total=20)
    batch = replace(batch, done=batch.with_done([0, 7, 8, 19]))
    assert [n for n in range(20) if batch.is_done(n)] == [0, 7, 8, 19]
    assert len(batch.done) == 3
