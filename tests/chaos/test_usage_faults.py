"""Usage while calls to AWS fail in every way: in the end it is what was used, nothing lost and nothing doubled."""

from __future__ import annotations

import contextlib
import random
from typing import TYPE_CHECKING

import pytest

from infra.aws import StateUnavailable
from infra.usage import DAY_SECONDS, Amounts, totals
from infra.usage_table import FOLD_AFTER_SECONDS, UsageTable
from tests.chaos.faults import CANCELED
from tests.web.test_meter import ask, meter_on
from web.usage_book import MOST_DAYS_LATE

if TYPE_CHECKING:
    from tests.chaos.conftest import Faulty
    from tests.web.doubles import HandClock

pytestmark = pytest.mark.slow

QUICK = ["ProvisionedThroughputExceededException", "InternalServerError", "reset", "lost", "cut", *CANCELED]
OVER = DAY_SECONDS + FOLD_AFTER_SECONDS
"""After which a day's rows are folded."""
SINCE, UNTIL = "2023-01-01", "2023-12-31"


def table_of(faulty: Faulty) -> UsageTable:
    return UsageTable(faulty.state.table, keep_days=400)


async def used(table: UsageTable) -> Amounts:
    found = totals(await table.rows("key:alice", since=SINCE, until=UNTIL)).values()
    return Amounts(*map(sum, zip(*found, strict=True)))


@pytest.mark.parametrize("seed", range(3))
async def test_containers_and_compactions_that_fail_at_random_come_to_what_was_used(
    faulty: Faulty, clock: HandClock, seed: int
) -> None:
    chance = random.Random(seed)
    meters = [meter_on(table_of(faulty), clock) for _ in range(2)]
    compactions = [table_of(faulty) for _ in range(2)]
    for number, how in enumerate(QUICK):
        operation = "TransactWriteItems" if how in CANCELED else ""
        faulty.proxy.plan(how, operation, times=None, share=0.08, seed=seed * 100 + number)
    asked = 0
    for _ in range(MOST_DAYS_LATE):
        for _ in range(8):
            meter = chance.choice(meters)
            asked += (times := chance.randint(1, 5))
            ask(meter, times)
            if chance.random() < 0.7:
                await meter.flush()
            if chance.random() < 0.4:
                with contextlib.suppress(StateUnavailable):  # the next run does it
                    await chance.choice(compactions).compact(now=clock.time() + OVER)  # under those who still write
        clock.advance(DAY_SECONDS)
    faulty.proxy.clear()
    for meter in meters:
        while not await meter.flush():
            pass
    table = compactions[0]
    assert (await used(table)).requests == asked
    while await table.compact(now=clock.time() + OVER):
        pass
    amounts = await used(table)
    assert (amounts.requests, amounts.cost) == (asked, asked * 10**7)
    assert len([row for row in await table.rows("key:alice", since=SINCE, until=UNTIL) if not row.folded]) <= 3


@pytest.mark.parametrize("how", ["lost", "cut"])
async def test_a_row_whose_writing_was_not_answered_and_that_was_folded_then_is_counted_once(
    faulty: Faulty, clock: HandClock, how: str
) -> None:
    table, meter = table_of(faulty), meter_on(table_of(faulty), clock)
    ask(meter, 2)
    assert await meter.flush()
    ask(meter, 3)
    faulty.proxy.plan(how, "PutItem", times=None)
    assert not await meter.flush()
    faulty.proxy.clear()
    assert await table.compact(now=clock.time() + OVER) == 1
    assert (await used(table)).requests == 5
    assert await meter.flush(), "it is told that all of it was there"
    ask(meter)
    assert await meter.flush()
    assert (await used(table)).requests == 6
