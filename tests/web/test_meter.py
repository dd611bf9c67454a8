"""What is counted is written down in time, once, whatever the store does; and budgets go by all that is known."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from infra.aws import StateUnavailable
from infra.usage import DAY_SECONDS, totals
from infra.usage_table import FOLD_AFTER_SECONDS, UsageTable
from tests.web.doubles import HandClock
from tests.web.usage_kit import priced
from web.budgets import REFRESH_SECONDS, STALE_SECONDS, WAIT_SECONDS
from web.caller import Caller
from web.usage import Meter, UsageInMemory
from web.usage_errors import BudgetExhausted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infra.usage import Row
    from tests.aws_kit import StateOfTest

FLUSH = 5.0
ALICE = Caller(identity="key:alice", name="alice", monthly_budget=0.001)
"""Whose budget are a hundred requests of `ask`."""


class Store(UsageInMemory):
    """`down`: it cannot be reached; `slow`: it does not answer."""

    def __init__(self, clock: HandClock) -> None:
        super().__init__(keep_days=400, clock=clock)
        self.down = self.slow = False
        self.writes = self.reads = 0

    async def write(self, rows: Sequence[Row]) -> dict[Row, Row | None]:
        self.writes += 1
        if self.down:
            raise StateUnavailable("down")
        return await super().write(rows)

    async def rows(self, account: str, *, since: str, until: str) -> list[Row]:
        self.reads += 1
        if self.slow:
            await asyncio.Event().wait()
        if self.down:
            raise StateUnavailable("down")
        return await super().rows(account, since=since, until=until)

    async def requests(self, account: str = "key:alice") -> int:
        found = await UsageInMemory.rows(self, account, since="0", until="9")
        return sum(amounts.requests for amounts in totals(found).values())


@pytest.fixture
def store(clock: HandClock) -> Store:
    return Store(clock)


def meter_on(store: Any, clock: HandClock) -> Meter:
    return Meter(store, priced(prices={"completion_tokens": 1}), clock)


def ask(meter: Meter, times: int = 1, *, caller: Caller = ALICE) -> None:
    """0.00001 each."""
    for _ in range(times):
        meter.record(caller, "scripted", prompt=3, cached=0, completion=10, seconds=0.1)


async def turn(clock: HandClock, seconds: float) -> None:
    """Let so much time pass, and who waits do what is to be done then."""
    clock.advance(seconds)
    for _ in range(20):
        await asyncio.sleep(0)


async def test_thousands_of_requests_are_one_write_and_an_idle_process_writes_nothing(
    store: Store, clock: HandClock
) -> None:
    meter = meter_on(store, clock)
    assert clock.pending() == []
    ask(meter, 5000)
    await turn(clock, FLUSH - 0.1)
    assert store.writes == 0
    await turn(clock, 0.1)
    assert (store.writes, await store.requests()) == (1, 5000)
    assert clock.pending() == []
    ask(meter)
    await turn(clock, FLUSH)
    assert (store.writes, await store.requests()) == (2, 5001)


async def test_a_process_that_is_killed_loses_what_it_counted_since_it_wrote_last(
    store: Store, clock: HandClock
) -> None:
    killed = meter_on(store, clock)
    ask(killed, 7)
    await turn(clock, FLUSH)
    ask(killed, 3)
    await turn(clock, FLUSH - 0.1)  # and nothing of it is called any more
    assert await store.requests() == 7


async def test_one_that_ends_writes_all_of_it(store: Store, clock: HandClock) -> None:
    meter = meter_on(store, clock)
    ask(meter, 7)
    await meter.close()
    assert await store.requests() == 7
    assert clock.pending() == []


async def test_while_the_store_is_down_it_counts_on_and_tells_it_once(
    store: Store, clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    meter = meter_on(store, clock)
    store.down = True
    for _ in range(5):
        ask(meter)
        await turn(clock, FLUSH)
    assert store.writes == 5
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    store.down = False
    await turn(clock, FLUSH)
    assert await store.requests() == 5
    assert caplog.messages[-1] == "usage is written again"


async def test_what_is_lost_at_the_end_is_told(
    store: Store, clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    meter = meter_on(store, clock)
    store.down = True
    ask(meter)
    await meter.close()
    assert "usage" in caplog.messages[-1]
    assert "lost" in caplog.messages[-1]


async def test_a_container_that_writes_behind_a_compaction_doubles_and_loses_nothing(
    aws_state: StateOfTest, clock: HandClock
) -> None:
    table = UsageTable(aws_state.table, keep_days=400)
    first, second = meter_on(table, clock), meter_on(UsageTable(aws_state.table, keep_days=400), clock)
    for meter in (first, second):
        ask(meter, 2)
        assert await meter.flush()
    ask(first, 3)  # of this day, and written after the next one has begun
    later = clock.time() + DAY_SECONDS + FOLD_AFTER_SECONDS
    assert await table.compact(now=later) == 2
    for _ in range(2):  # it is told that its row was folded, and writes the rest into another one
        await first.flush()
    await first.close()
    while await table.compact(now=later):
        pass
    rows = await table.rows("key:alice", since="2023-01-01", until="2023-12-31")
    (amounts,) = totals(rows).values()
    assert (amounts.requests, amounts.completion_tokens) == (7, 70)
    assert len([row for row in rows if not row.folded]) == 1


async def spends(meter: Meter, caller: Caller = ALICE) -> bool:
    try:
        await meter.check(caller)
    except BudgetExhausted:
        return False
    return True


async def test_a_budget_is_of_all_containers_and_heard_within_seconds(store: Store, clock: HandClock) -> None:
    here, there = meter_on(store, clock), meter_on(store, clock)
    assert await spends(here)
    ask(here, 50)
    ask(there, 50)
    assert await spends(here), "what the other one has not written nobody can know"
    await turn(clock, FLUSH)
    assert store.reads == 1
    await turn(clock, REFRESH_SECONDS - FLUSH + 0.1)
    assert await spends(here), "it is read beside the request"
    await turn(clock, 0)
    assert not await spends(here)
    assert not await spends(there)
    assert store.reads == 3


async def test_what_is_used_here_counts_at_once_and_is_not_counted_again_when_it_is_read(
    store: Store, clock: HandClock
) -> None:
    meter = meter_on(store, clock)
    for seconds in (0.0, FLUSH, REFRESH_SECONDS, 1.0):
        assert await spends(meter)
        ask(meter, 24)
        await turn(clock, seconds)
    assert await meter.spent(ALICE) == 96 * 10**7
    ask(meter, 3)
    assert await spends(meter)
    ask(meter)
    assert not await spends(meter)


async def test_another_month_is_another_budget(store: Store, clock: HandClock) -> None:
    meter = meter_on(store, clock)
    clock.advance(1_764_547_199 - clock.time())  # 2025-11-30 23:59:59
    assert await spends(meter)
    ask(meter, 100)
    with pytest.raises(BudgetExhausted, match=r"budget of 0\.001 USD a month is spent\. It begins anew on 2025-12-01"):
        await meter.check(ALICE)
    await turn(clock, 1)
    assert await spends(meter)


async def test_without_a_store_a_budget_goes_by_what_is_known_and_nobody_waits_for_it_again(
    store: Store, clock: HandClock
) -> None:
    meter = meter_on(store, clock)
    assert await spends(meter)
    ask(meter, 60)
    store.down = True
    await turn(clock, STALE_SECONDS + 1)
    assert await spends(meter)
    store.slow = True
    await turn(clock, STALE_SECONDS + 1)
    async with asyncio.timeout(20):
        assert await spends(meter), "at once"
    ask(meter, 40)
    assert not await spends(meter)
    await meter.close()


async def test_a_store_that_does_not_answer_holds_up_a_first_request_for_a_moment(
    store: Store, clock: HandClock
) -> None:
    meter = meter_on(store, clock)
    store.slow = True
    waiting = asyncio.create_task(spends(meter))
    await turn(clock, 0)
    await turn(clock, WAIT_SECONDS - 0.1)
    assert not waiting.done()
    clock.advance(0.2)
    async with asyncio.timeout(20):
        assert await waiting
        assert await spends(meter), "the next one does not wait at all"
    await meter.close()


async def test_who_has_no_key_is_one_with_all_others(store: Store, clock: HandClock) -> None:
    meter = meter_on(store, clock)
    for number in range(100):
        ask(meter, caller=Caller(identity=f"ip:10.0.0.{number}"))
    await meter.close()
    assert await store.accounts() == {"anonymous": None}
