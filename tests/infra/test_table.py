"""The table's operations, on the emulator's DynamoDB."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from boto3.dynamodb.conditions import Attr

from infra.aws import ConditionFailed
from infra.table import Change, Key, Put

if TYPE_CHECKING:
    from tests.aws_kit import StateOfTest

KEY = Key("noun#one", "item")


async def test_an_update_makes_the_item_that_is_not_there_and_tells_it(aws_state: StateOfTest) -> None:
    made = await aws_state.table.update(KEY, set={"name": "first", "size": 1}, add={"count": 2})
    assert made == {"pk": "noun#one", "sk": "item", "name": "first", "size": 1, "count": 2}
    assert await aws_state.table.get(KEY) == made


async def test_an_update_sets_adds_and_removes_and_leaves_the_rest(aws_state: StateOfTest) -> None:
    await aws_state.table.put({**KEY.item(), "name": "first", "size": 1, "count": 2, "kept": True})
    changed = await aws_state.table.update(KEY, set={"name": "second"}, add={"count": -5}, remove=["size"])
    assert changed == {**KEY.item(), "name": "second", "count": -3, "kept": True}


async def test_an_update_whose_condition_fails_changes_nothing(aws_state: StateOfTest) -> None:
    await aws_state.table.update(KEY, set={"count": 1})
    with pytest.raises(ConditionFailed):
        await aws_state.table.update(KEY, add={"count": 1}, condition=Attr("count").eq(7) & Attr("pk").exists())
    assert (await aws_state.table.get(KEY) or {})["count"] == 1


async def test_what_is_deleted_is_told_once(aws_state: StateOfTest) -> None:
    item = {**KEY.item(), "name": "first"}
    await aws_state.table.put(item)
    with pytest.raises(ConditionFailed):
        await aws_state.table.delete(KEY, condition=Attr("name").eq("second"))
    assert await aws_state.table.delete(KEY) == item
    assert await aws_state.table.delete(KEY) is None


async def test_a_transaction_changes_an_item_and_puts_another_or_does_neither(aws_state: StateOfTest) -> None:
    other = Key("noun#two", "item")
    await aws_state.table.put({**KEY.item(), "turn": "t", "size": 1})
    put = Put({**other.item(), "name": "new"})
    change = Change(KEY, {"size": 2}, remove=("turn",), condition=Attr("turn").eq("t"))
    await aws_state.table.transact([put, change])
    assert await aws_state.table.get(KEY) == {**KEY.item(), "size": 2}
    assert await aws_state.table.delete(other) is not None
    with pytest.raises(ConditionFailed) as refused:
        await aws_state.table.transact([put, change])
    assert refused.value.reasons == ("None", "ConditionalCheckFailed")
    assert await aws_state.table.get(other) is None


async def test_an_update_whose_condition_fails_can_tell_what_is_there(aws_state: StateOfTest) -> None:
    there = {**KEY.item(), "count": 1, "parts": {"a": [[Decimal(3), True]], "b": "text"}}
    await aws_state.table.put(there)
    mine = Attr("count").eq(7)
    with pytest.raises(ConditionFailed) as told:
        await aws_state.table.update(KEY, add={"count": 1}, condition=mine, tell=True)
    assert told.value.item == there
    for key, tell in ((KEY, False), (Key("noun#none", "item"), True)):
        with pytest.raises(ConditionFailed) as untold:
            await aws_state.table.update(key, add={"count": 1}, condition=mine, tell=tell)
        assert untold.value.item is None
