"""The table's operations, on the emulator's DynamoDB."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from boto3.dynamodb.conditions import Attr

from infra.aws import ConditionFailed
from infra.table import Key

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
