"""Usage in DynamoDB: rows that are written again, folded under conditions, and read as what they add up to."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from infra import usage_table
from infra.usage import BASE, DAY_SECONDS, Amounts, Row, Slot, midnight_after, totals
from infra.usage_table import FOLD_AFTER_SECONDS, MARKED_SECONDS, UsageTable

if TYPE_CHECKING:
    from tests.aws_kit import StateOfTest

DAY = "2025-11-25"
SLOT = Slot("key:a", DAY, "m")
LATER = midnight_after(DAY) + FOLD_AFTER_SECONDS


@pytest.fixture
def usage(aws_state: StateOfTest) -> UsageTable:
    return UsageTable(aws_state.table, keep_days=400)


def row(writer: str, version: int = 1, requests: int = 1, slot: Slot = SLOT) -> Row:
    return Row(slot, writer, Amounts(requests, *range(2, 8)), version=version, name="alice")


async def requests(usage: UsageTable, account: str = "key:a") -> int:
    rows = await usage.rows(account, since="2025-01-01", until="2025-12-31")
    return sum(amounts.requests for amounts in totals(rows).values())


async def test_what_was_written_is_read_and_its_last_version_counts(usage: UsageTable, aws_state: StateOfTest) -> None:
    assert await usage.write([row("x"), row("y")]) == {}
    assert await usage.write([row("x", version=2, requests=5)]) == {}
    (amounts,) = totals(await usage.rows("key:a", since=DAY, until=DAY)).values()
    assert amounts == Amounts(6, *(2 * one for one in range(2, 8)))
    assert await usage.accounts() == {"key:a": "alice"}
    for item in aws_state.items():
        assert item["ttl"] == midnight_after(DAY) + 400 * DAY_SECONDS


async def test_a_day_or_several_are_read(usage: UsageTable) -> None:
    days = ["2025-09-30", "2025-10-01", "2025-10-31", "2025-11-01"]
    await usage.write([row("x", slot=SLOT._replace(day=day)) for day in days])

    async def read(since: str, until: str) -> list[str]:
        return [one.slot.day for one in await usage.rows("key:a", since=since, until=until)]

    assert await read("2025-10-01", "2025-10-31") == days[1:3]
    assert await read("2025-10-01", "2025-10-01") == days[1:2]
    assert await read("2025-09-30", "2025-11-01") == days
    assert await read("2024-01-01", "2026-01-01") == days
    assert await read("2025-10-02", "2025-10-30") == []


@pytest.mark.slow
async def test_many_rows_are_a_few_calls(usage: UsageTable, aws_state: StateOfTest) -> None:
    rows = [row("x", slot=Slot(f"key:{number}", DAY, "m")) for number in range(15)]
    await usage.write(rows)
    assert aws_state.calls == ["dynamodb:TransactWriteItems"] * 2, "with 15 accounts that were new"
    aws_state.calls.clear()
    await usage.write([replace(one, version=2) for one in rows])
    await usage.write([replace(rows[0], version=3)])
    assert aws_state.calls == ["dynamodb:TransactWriteItems", "dynamodb:PutItem"]


@pytest.mark.slow
async def test_an_earlier_version_that_comes_late_is_refused_and_the_others_are_written(usage: UsageTable) -> None:
    late = row("x", version=1)
    await usage.write([row("x", version=2, requests=7)])
    refused = await usage.write([late, row("y")])
    assert {one.writer: there and there.amounts.requests for one, there in refused.items()} == {"x": 7}
    assert await requests(usage) == 8


async def test_finished_days_are_folded_into_one_row_and_add_up_to_the_same(
    usage: UsageTable, aws_state: StateOfTest
) -> None:
    await usage.write([row(writer) for writer in "xyz"])
    today = row("x", slot=SLOT._replace(day="2025-11-26"))
    await usage.write([today])
    assert await usage.compact(now=LATER - 1) == 0
    assert await usage.compact(now=LATER) == 3
    assert await usage.compact(now=LATER) == 0
    assert await requests(usage) == 4
    rows = {(one.slot.day, one.writer): one for one in await usage.rows("key:a", since=DAY, until="2025-11-26")}
    assert rows[DAY, BASE].amounts.requests == 3
    assert [rows[DAY, writer].folded for writer in "xyz"] == [1, 1, 1]
    assert rows["2025-11-26", "x"] == replace(today, name=None)
    marked = [item for item in aws_state.items() if "folded" in item]
    assert {item["ttl"] for item in marked} == {LATER + MARKED_SECONDS}, "long before the base's"
    assert not any("due" in item for item in marked)


async def test_who_writes_behind_a_fold_is_told_what_was_folded(usage: UsageTable) -> None:
    await usage.write([row("x", version=3, requests=4)])
    await usage.compact(now=LATER)
    (there,) = (await usage.write([row("x", version=4, requests=6)])).values()
    assert there is not None
    assert (there.amounts.requests, there.folded) == (4, 1)
    await usage.write([row("x.1", requests=2)])
    assert await requests(usage) == 6
    assert await usage.compact(now=LATER) == 1
    assert await requests(usage) == 6


@pytest.mark.slow
async def test_two_compactions_at_once_fold_each_row_once(usage: UsageTable, aws_state: StateOfTest) -> None:
    slots = SLOT, SLOT._replace(model="n")
    await usage.write([row(f"w{number}", slot=slot) for number in range(5) for slot in slots])
    other = UsageTable(aws_state.table, keep_days=400)
    folded = await asyncio.gather(usage.compact(now=LATER), other.compact(now=LATER))
    while await usage.compact(now=LATER):
        pass
    assert sum(folded) <= 10
    rows = await usage.rows("key:a", since=DAY, until=DAY)
    assert [one.amounts.requests for one in rows if one.writer == BASE] == [5, 5]
    assert await requests(usage) == 10


@pytest.mark.slow
async def test_more_rows_than_one_transaction_takes_are_folded_all(
    usage: UsageTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_table, "MOST_FOLDED", 2)
    await usage.write([row(f"w{number}") for number in range(5)])
    assert await usage.compact(now=LATER) == 5
    assert await requests(usage) == 5
