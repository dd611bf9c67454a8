"""One call to AWS, whatever befalls it: tried again within a budget, then told, and its effect there once or not."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from boto3.dynamodb.conditions import Attr

from infra import aws
from infra.aws import ATTEMPTS, CONFLICTS, ConditionFailed, ObjectMissing, StateUnavailable
from infra.table import Add, Key, Put
from tests.chaos.faults import CARRIED_OUT, NETWORK

if TYPE_CHECKING:
    from tests.chaos.conftest import Faulty

pytestmark = pytest.mark.slow

KEY = Key("thing#1", "id#1")
ITEM = {**KEY.item(), "n": 1}
PASSING = [
    "ProvisionedThroughputExceededException", "ThrottlingException", "RequestLimitExceeded", "InternalServerError",
    "ServiceUnavailable", "reset", "lost", "cut",
]  # fmt: skip
"""What is worth another try, at once."""
WAITING = ["silent", "late"]
"""What is noticed when time is up."""
LASTING = ["AccessDeniedException", "ResourceNotFoundException"]


@pytest.mark.parametrize("how", PASSING)
async def test_a_call_that_fails_for_a_moment_is_tried_again(faulty: Faulty, how: str) -> None:
    table = faulty.state.table
    await table.put(ITEM)
    faulty.proxy.calls.clear()
    fault = faulty.proxy.plan(how, "GetItem", times=ATTEMPTS - 1)
    assert await table.get(KEY) == ITEM
    assert fault.struck == ATTEMPTS - 1
    assert len(faulty.proxy.calls) == ATTEMPTS


@pytest.mark.parametrize("how", PASSING)
async def test_a_call_that_fails_on_and_on_is_told_after_so_many_tries(faulty: Faulty, how: str) -> None:
    faulty.proxy.plan(how, times=None)
    with pytest.raises(StateUnavailable):
        await faulty.state.table.get(KEY)
    assert faulty.proxy.operations() == ["GetItem"] * ATTEMPTS


@pytest.mark.parametrize("how", LASTING)
async def test_what_another_try_cannot_mend_is_told_at_once_with_its_code(faulty: Faulty, how: str) -> None:
    faulty.proxy.plan(how, times=None)
    with pytest.raises(StateUnavailable) as told:
        await faulty.state.table.get(KEY)
    assert told.value.code == how
    assert faulty.proxy.operations() == ["GetItem"]


@pytest.mark.parametrize(
    ("how", "operation"),
    [
        ("TransactionConflictException", "PutItem"),
        ("conflict", "TransactWriteItems"),
        ("throttled", "TransactWriteItems"),
    ],
)
async def test_a_write_that_comes_in_the_way_of_a_transaction_is_tried_again(
    faulty: Faulty, how: str, operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aws, "PAUSE_SECONDS", (0.0, 0.0))

    async def write() -> None:
        if operation == "PutItem":
            await faulty.state.table.put(ITEM)
        else:
            await faulty.state.table.transact([Put(ITEM), Add(Key("thing#1", "count"), "count", 1)])

    passing = faulty.proxy.plan(how, operation, times=CONFLICTS - 1)
    await write()
    assert passing.struck == CONFLICTS - 1
    assert await faulty.state.table.get(KEY) == ITEM
    faulty.proxy.clear()
    faulty.proxy.plan(how, operation, times=None)
    with pytest.raises(StateUnavailable):
        await write()
    assert faulty.proxy.operations() == [operation] * CONFLICTS


@pytest.mark.parametrize("how", WAITING)
async def test_a_service_that_falls_silent_is_given_up_in_time(
    faulty: Faulty, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aws, "READ_SECONDS", 0.5)
    faulty.state.clients.close()  # new ones are made, with that patience
    faulty.proxy.plan(how, times=None)
    began = time.monotonic()
    with pytest.raises(StateUnavailable):
        await faulty.state.table.put(ITEM)
    assert time.monotonic() - began >= ATTEMPTS * 0.5
    assert faulty.proxy.operations() == ["PutItem"] * ATTEMPTS
    faulty.proxy.clear()
    faulty.state.clients.close()
    assert (await faulty.state.table.get(KEY) is not None) == (how in CARRIED_OUT)


@pytest.mark.parametrize("how", ["reset", "lost", "cut", "InternalServerError"])
async def test_a_write_that_is_told_to_have_failed_is_there_whole_or_not_at_all(faulty: Faulty, how: str) -> None:
    """Who is told StateUnavailable cannot know which: so it is documented, and each caller has to cope."""
    faulty.proxy.plan(how, times=None, operation="TransactWriteItems")
    with pytest.raises((StateUnavailable, ConditionFailed)):
        await faulty.state.table.transact(
            [Put(ITEM, Attr("pk").not_exists()), Add(Key("thing#1", "count"), "count", 1, below=1)]
        )
    faulty.proxy.clear()
    there = sorted(item["sk"] for item in faulty.state.items())
    assert there == (["count", "id#1"] if how in CARRIED_OUT else [])


async def test_an_addition_whose_answer_was_lost_may_count_twice_unless_it_has_a_condition(faulty: Faulty) -> None:
    """boto3 tries it again, and a single addition cannot know that it was done: who adds must bear that, or carry a
    mark. Here is what is so, for those who build on it."""
    table = faulty.state.table
    faulty.proxy.plan("lost", "UpdateItem")
    assert (await table.update(KEY, add={"n": 1}))["n"] == 2
    faulty.proxy.plan("lost", "UpdateItem")
    with pytest.raises(ConditionFailed):
        await table.update(KEY, add={"n": 1}, condition=Attr("n").eq(2))
    found = await table.get(KEY)
    assert found is not None
    assert found["n"] == 3


@pytest.mark.parametrize("how", ["SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout", *NETWORK[:3]])
async def test_objects_are_put_and_read_whatever_fails_for_a_moment(faulty: Faulty, how: str) -> None:
    bucket, body = faulty.state.bucket, b"x" * 100_000
    put = faulty.proxy.plan(how, "PutObject", service="s3", times=ATTEMPTS - 1)
    get = faulty.proxy.plan(how, "GetObject", service="s3", times=ATTEMPTS - 1)
    await bucket.put("one", body)
    assert await bucket.get("one") == body
    assert (put.struck, get.struck) == (ATTEMPTS - 1, ATTEMPTS - 1)
    assert len(faulty.proxy.operations("s3")) == 2 * ATTEMPTS


@pytest.mark.parametrize("how", ["SlowDown", "cut"])
async def test_objects_that_cannot_be_read_are_told_after_so_many_tries(faulty: Faulty, how: str) -> None:
    bucket = faulty.state.bucket
    await bucket.put("one", b"x" * 100_000)
    faulty.proxy.clear()
    faulty.proxy.plan(how, service="s3", times=None)
    with pytest.raises(StateUnavailable):
        await bucket.get("one")
    assert faulty.proxy.operations("s3") == ["GetObject"] * ATTEMPTS
    faulty.proxy.clear()
    with pytest.raises(ObjectMissing):
        await bucket.get("another")
    assert faulty.proxy.operations("s3") == ["GetObject"]
