"""Metrics in DynamoDB: whatever containers and folders do at once, nothing is counted twice and nothing falls."""

from __future__ import annotations

import asyncio
import random
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from infra.aws import StateUnavailable
from infra.metric_families import family
from infra.metric_parts import NOUN as PARTS
from infra.metric_parts import PART_BYTES
from infra.metric_rows import ENDED_SECONDS, LOST_SECONDS, REMOVE_SECONDS, Reading, Row
from infra.metric_snapshots import Shape, Snapshot, pack, units
from infra.metrics_table import READ_TRIES, MetricsTable, Superseded
from tests.aws_kit import StateOfTest
from tests.web.doubles import HandClock
from web.publishing import Publisher

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from infra.table import Item

REQUESTS = Shape.of(family("chat_completions_requests_total"))
INTERVAL = 10.0
LONG = LOST_SECONDS + 1
FEW = 40
"""Bytes, of which a small snapshot has more."""


def counted(reading: Reading, now: float = 0.0) -> int:
    ((number,),) = reading.total(now).get(REQUESTS, {("a",): (0,)}).values()
    assert number % units(1) == 0
    return number // units(1)


@dataclass
class Container:
    """One whose store may fail as it is told: before the write is done, or after."""

    store: MetricsTable
    clock: HandClock
    count: int = 0
    faults: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.publisher = Publisher(self, self.snapshot, clock=self.clock, interval=INTERVAL)

    def snapshot(self) -> Snapshot:
        return {REQUESTS: {("a",): (units(self.count),)}}

    async def write(self, row: Row, *, new: bool, again: bool = False) -> None:
        fault = self.faults.pop() if self.faults else None
        try:
            if fault != "before":
                await self.store.write(row, new=new, again=again)
        finally:
            if fault is not None:
                raise StateUnavailable(fault)

    async def read(self) -> Reading:
        return await self.store.read()

    async def fold(self, *, now: float) -> int:
        return await self.store.fold(now=now)


@pytest.fixture
async def clock() -> AsyncIterator[HandClock]:
    yield HandClock()


@pytest.fixture
def store(aws_state: StateOfTest) -> MetricsTable:
    return MetricsTable(aws_state.table)


async def fold_until_nothing_is_left(store: MetricsTable, clock: HandClock) -> None:
    for _ in range(5):
        while await store.fold(now=clock.time()):
            pass
        clock.advance(REMOVE_SECONDS + 1)


async def test_what_ended_is_folded_and_in_time_removed_and_the_sum_stays(
    store: MetricsTable, clock: HandClock, aws_state: StateOfTest
) -> None:
    one, other = Container(store, clock, count=3), Container(store, clock, count=4)
    await one.publisher.publish()
    await other.publisher.close()
    assert counted(await store.read()) == 7
    assert await store.fold(now=clock.time()) == 0, "a write may still be on its way"
    clock.advance(ENDED_SECONDS + 1)
    assert await store.fold(now=clock.time()) == 1
    assert counted(await store.read()) == 7
    assert len((await store.read()).rows) == 2, "who has read the base before has yet to read the row"
    clock.advance(REMOVE_SECONDS + 1)
    assert await store.fold(now=clock.time()) == 1
    assert counted(await store.read()) == 7
    assert len((await store.read()).rows) == 1
    assert {"ttl" in item for item in aws_state.items() if item["sk"] != "base"} == {True}


async def test_a_container_that_was_taken_for_dead_goes_on_in_a_new_row(store: MetricsTable, clock: HandClock) -> None:
    container = Container(store, clock, count=3)
    await container.publisher.publish()
    for steps, more in ((1, 2), (4, 5)):  # sealed and folded; and removed as well
        clock.advance(LONG)
        for _ in range(steps):
            await store.fold(now=clock.time())
            clock.advance(REMOVE_SECONDS + 1)
        container.count += more
        assert counted(await store.read()) == container.count - more
        await container.publisher.publish()
        assert counted(await store.read()) == container.count


@pytest.mark.parametrize("fault", ["before", "after"])
@pytest.mark.parametrize("first", [True, False], ids=["the first", "a later one"])
async def test_a_write_whose_answer_was_lost_counts_once_even_if_its_container_was_taken_for_dead_and_folded(
    store: MetricsTable, clock: HandClock, fault: str, first: bool
) -> None:
    container = Container(store, clock, count=3)
    if not first:
        await container.publisher.publish()
        container.count = 5
    container.faults = [fault]
    with pytest.raises(StateUnavailable):
        await container.publisher.publish()
    clock.advance(LONG)
    await fold_until_nothing_is_left(store, clock)
    container.count = 9
    await container.publisher.publish()
    assert counted(await store.read()) == 9


async def test_a_row_is_written_only_by_who_made_it_and_only_forwards(store: MetricsTable) -> None:
    first = Row("w", 1, {}, 0.0, INTERVAL)
    await store.write(first, new=True)
    await store.write(Row("w", 3, {}, 0.0, INTERVAL), new=False)
    for late in (first, Row("w", 2, {}, 0.0, INTERVAL)):
        with pytest.raises(Superseded):
            await store.write(late, new=late is first)


def parts(state: StateOfTest) -> int:
    return sum(item["pk"] == PARTS for item in state.items())


@pytest.mark.slow
async def test_a_row_and_a_base_that_are_too_large_for_an_item_are_in_several_and_are_read_whole(
    store: MetricsTable, clock: HandClock, aws_state: StateOfTest
) -> None:
    counted = {REQUESTS: {(secrets.token_hex(32),): (units(number),) for number in range(1, 12_000)}}
    assert len(pack(counted)) > 400_000
    container = Container(store, clock)
    container.publisher = Publisher(container, lambda: counted, clock=clock, interval=INTERVAL)
    for _ in range(2):
        await container.publisher.publish()
        assert (await store.read()).total(0.0) == counted
        assert parts(aws_state) == 2, "of the row that is there alone"
    await container.publisher.close()
    await fold_until_nothing_is_left(store, clock)
    reading = await store.read()
    assert (reading.base.snapshot, reading.rows) == (counted, [])
    assert parts(aws_state) == 2


async def test_who_reads_a_row_in_parts_while_it_is_written_anew_reads_one_of_both(
    clock: HandClock, aws_state: StateOfTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = aws_state.table
    store = MetricsTable(table, part_bytes=FEW)
    container = Container(store, clock, count=1)
    await container.publisher.publish()
    query, newer = table.query, [2]

    async def query_then_written(pk: str, **more: Any) -> list[Item]:
        items = await query(pk, **more)
        if newer:
            container.count = newer.pop()
            await container.publisher.publish()
        return items

    monkeypatch.setattr(table, "query", query_then_written)
    assert counted(await store.read()) == 2
    newer[:] = range(3, 3 + 2 * READ_TRIES)
    with pytest.raises(StateUnavailable):
        await store.read()


async def test_of_rows_and_bases_in_parts_that_came_too_late_nothing_is_left(
    clock: HandClock, aws_state: StateOfTest
) -> None:
    store = MetricsTable(aws_state.table, part_bytes=FEW)
    container = Container(store, clock, count=3)
    await container.publisher.publish()
    one = parts(aws_state)
    clock.advance(LONG)
    await asyncio.gather(*(store.fold(now=clock.time()) for _ in range(4)))
    assert parts(aws_state) == 2 * one, "a row's and a base's"
    container.count = 5
    await container.publisher.publish()  # it is told that its row is sealed, and begins another one
    assert (counted(await store.read()), parts(aws_state)) == (5, 3 * one)


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "part_bytes"), [(0, PART_BYTES), (1, PART_BYTES), (2, FEW)])
async def test_whatever_comes_goes_fails_and_folds_at_once_every_count_is_there_once_and_the_sum_never_falls(
    aws_state: StateOfTest, clock: HandClock, seed: int, part_bytes: int
) -> None:
    store = MetricsTable(aws_state.table, part_bytes=part_bytes)
    chance = random.Random(seed)
    living = [Container(store, clock) for _ in range(3)]
    gone = seen = 0

    async def step() -> None:
        nonlocal gone
        container = chance.choice(living)
        container.count += chance.randrange(5)
        match chance.randrange(10):
            case 0:  # it ends
                await container.publisher.close()
                living[living.index(container)] = Container(store, clock)
                gone += container.count
            case 1:  # it is killed, and what it has not written is lost
                await container.publisher.publish()
                living[living.index(container)] = Container(store, clock)
                gone += container.count
            case 2:
                container.faults = [chance.choice(["before", "after"])]
                with pytest.raises(StateUnavailable):
                    await container.publisher.publish()
            case _:
                await container.publisher.publish()

    for _ in range(25):
        await step()
        clock.advance(chance.choice([1.0, ENDED_SECONDS, LONG]))
        readings = asyncio.gather(*(store.read() for _ in range(2)))
        await asyncio.gather(*(store.fold(now=clock.time()) for _ in range(chance.randrange(4))))
        totals = [counted(reading) for reading in await readings]
        assert min(totals) >= seen
        seen = max(totals)
        assert seen <= gone + sum(container.count for container in living)
    for container in living:
        await container.publisher.close()
    assert counted(await store.read()) == gone + sum(container.count for container in living)
    await fold_until_nothing_is_left(store, clock)
    reading = await store.read()
    assert (counted(reading), reading.rows) == (gone + sum(container.count for container in living), [])
    (base,) = (item for item in aws_state.items() if item["pk"] == "metrics")
    assert parts(aws_state) == base.get("pieces", 0)
