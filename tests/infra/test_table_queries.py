"""The table's queries, on the emulator's DynamoDB."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from infra import blueprint
from infra.table import Key
from tests.aws_kit import forbidden

if TYPE_CHECKING:
    from infra.table import Item, Table
    from tests.aws_kit import StateOfTest

PK = "noun#owner"


async def keep(table: Table, *names: str, pk: str = PK, **more: object) -> None:
    for name in names:
        await table.put({**Key(pk, name).item(), **more})


def names(items: list[Item]) -> list[str]:
    return [item["sk"] for item in items]


async def test_a_query_finds_the_items_of_one_pk_in_order(aws_state: StateOfTest) -> None:
    table = aws_state.table
    await keep(table, "b#2", "a#1", "b#1", "c#1", text="all of it")
    await keep(table, "b#3", pk="noun#another")
    assert names(await table.query(PK)) == ["a#1", "b#1", "b#2", "c#1"]
    assert names(await table.query(PK, prefix="b#")) == ["b#1", "b#2"]
    assert names(await table.query(PK, prefix="b#", newest_first=True)) == ["b#2", "b#1"]
    assert await table.query(PK, prefix="c") == [{"pk": PK, "sk": "c#1", "text": "all of it"}]
    assert await table.query("noun#nobody") == []


async def test_a_query_goes_on_after_an_item_that_may_be_gone(aws_state: StateOfTest) -> None:
    table = aws_state.table
    await keep(table, "n#1", "n#2", "n#4", "o#1")
    assert names(await table.query(PK, prefix="n#", after="n#1", limit=1)) == ["n#2"]
    assert names(await table.query(PK, prefix="n#", after="n#3")) == ["n#4"]
    assert names(await table.query(PK, prefix="n#", after="n#3", newest_first=True)) == ["n#2", "n#1"]
    assert names(await table.query(PK, prefix="n#", after="n#4")) == []
    with pytest.raises(ValueError, match="does not begin"):
        await table.query(PK, prefix="n#", after="o#1")


async def test_a_query_reads_as_many_pages_as_it_takes(aws_state: StateOfTest) -> None:
    table = aws_state.table
    await keep(table, *(f"{n}" for n in range(5)), text="x" * 300_000)  # DynamoDB's pages end at 1 MB
    aws_state.calls.clear()
    assert names(await table.query(PK)) == ["0", "1", "2", "3", "4"]
    assert aws_state.calls == ["dynamodb:Query"] * 2
    assert names(await table.query(PK, limit=4)) == ["0", "1", "2", "3"]
    assert await table.query(PK, limit=0) == []


async def test_what_is_due_is_found_whoever_owns_it_the_earliest_first(aws_state: StateOfTest) -> None:
    table = aws_state.table
    await keep(table, "late", due="session", due_at=30)
    await keep(table, "early", pk="noun#another", due="session", due_at=10)
    await keep(table, "next", due="session", due_at=20)
    await keep(table, "other", due="batch", due_at=10)
    await keep(table, "never")
    assert await table.due("session", before=20, limit=9) == [Key("noun#another", "early"), Key(PK, "next")]
    assert await table.due("session", before=19.5, limit=9) == [Key("noun#another", "early")]
    assert await table.due("session", before=30, limit=2) == [Key("noun#another", "early"), Key(PK, "next")]
    assert await table.due("session", before=9, limit=9) == []


def test_a_policy_allows_what_it_says_and_no_more() -> None:
    policy = blueprint.policy(table_name="t", bucket_name="b")
    allowed = {
        ("dynamodb:Query", "table/t"), ("dynamodb:Query", "table/t/index/recent"),
        ("dynamodb:Query", "table/t/index/due"), ("s3:PutObject", "b/a/key"),
    }  # fmt: skip
    assert forbidden(policy, allowed) == set()
    not_allowed = {
        ("dynamodb:Query", "table/u"), ("dynamodb:Query", "table/t/index/other"), ("dynamodb:Scan", "table/t"),
        ("dynamodb:GetItem", "table/t/index/due"), ("s3:PutObject", "c/key"), ("s3:PutObject", "b"),
    }  # fmt: skip
    assert forbidden(policy, not_allowed) == not_allowed
