"""Sessions in DynamoDB and S3: what a store in one process's memory cannot get wrong."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from infra.aws import Clients, ConditionFailed
from infra.table import Bucket, Item, Table
from tests.web.doubles import HandClock
from web.errors import to_wire
from web.session_errors import SessionConflict, StoreUnavailable, TooManySessions
from web.session_table import LEASE_SECONDS, LOOK_SECONDS, RENEW_SECONDS, SessionsInTable
from web.sessions import Message, Session, SessionKey

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.aws_kit import StateOfTest

pytestmark = pytest.mark.slow

KEY = SessionKey("key:1", "s")
LARGE = Message(role="user", content="x" * 70_000)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def container(aws_state: StateOfTest, clock: HandClock) -> Callable[[], SessionsInTable]:
    """Each call is the store of a container of its own."""
    return lambda: SessionsInTable(aws_state.table, aws_state.bucket, clock=clock)


def session_of(clock: HandClock, **more: Any) -> Session:
    return Session(**{"key": KEY, "system": "sys", "expires_at": clock.time() + 3600, **more})


def asked(session: Session) -> Session:
    return session.asked("q", turn="t", system=None, model="m", expires_at=session.expires_at)


Container = "Callable[[], SessionsInTable]"


async def test_every_container_sees_what_another_has_kept(container: Container, clock: HandClock) -> None:
    here, there = container(), container()
    session = session_of(clock)
    await here.create(session, most=9)
    assert await there.load(KEY) == session
    later = asked(session)
    await there.save(later)
    with pytest.raises(SessionConflict):
        await here.save(asked(session))
    assert await here.load(KEY) == later
    assert [one.id for one in await here.listed(KEY.owner)] == ["s"]
    await here.delete(KEY)
    assert await there.load(KEY) is None


async def test_a_turn_costs_three_calls(container: Container, clock: HandClock, aws_state: StateOfTest) -> None:
    await container().create(session_of(clock), most=9)
    store = container()
    aws_state.calls.clear()
    session = await store.load(KEY)
    assert session is not None
    question = asked(session)
    await store.save(question)
    watching = asyncio.create_task(store.changed(question))
    await asyncio.sleep(0)
    answer = question.answered("a", interrupted=False, usage=None, sent=1, most=9, expires_at=question.expires_at)
    await store.save(answer)
    await watching
    assert aws_state.calls == ["dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:PutItem"]


async def test_a_long_turn_costs_one_more_call_every_ten_seconds(
    container: Container, clock: HandClock, aws_state: StateOfTest
) -> None:
    store = container()
    question = asked(session_of(clock))
    await store.create(question, most=9)
    aws_state.calls.clear()
    working = asyncio.create_task(store.changed(question))
    for seconds, calls in ((RENEW_SECONDS - 1, 0), (1, 1), (RENEW_SECONDS, 2)):
        await settle(clock)
        clock.advance(seconds)
        async with asyncio.timeout(20):
            while len(aws_state.calls) < calls:  # noqa: ASYNC110 - what counts is no asyncio object
                await asyncio.sleep(0.001)
        assert aws_state.calls == ["dynamodb:UpdateItem"] * calls
    working.cancel()
    await asyncio.wait([working])


async def test_a_turn_whose_container_died_is_told_as_interrupted_and_another_may_begin(
    container: Container, clock: HandClock
) -> None:
    question = asked(session_of(clock))
    await container().create(question, most=9)
    clock.advance(LEASE_SECONDS - 1)
    other = container()
    found = await other.load(KEY)
    assert found is not None
    assert found.turn == "t"
    clock.advance(1)
    found = await other.load(KEY)
    assert found is not None
    assert found.turn is None
    assert found.history()[1:] == [
        {"role": "user", "content": "q"}, {"role": "assistant", "content": "", "interrupted": True}
    ]  # fmt: skip
    await other.save(asked(found))


async def test_a_turn_under_way_stays_under_way_however_long_it_takes(container: Container, clock: HandClock) -> None:
    store = container()
    question = asked(session_of(clock))
    await store.create(question, most=9)
    working = asyncio.create_task(store.changed(question))
    other = container()
    for _ in range(3):
        await settle(clock)
        clock.advance(LEASE_SECONDS / 2)
        await settle(clock)
        found = await other.load(KEY)
        assert found is not None
        assert found.turn == "t"
    assert not working.done()
    await other.delete(KEY)
    await settle(clock)
    clock.advance(RENEW_SECONDS)
    async with asyncio.timeout(20):
        await working


async def settle(clock: HandClock) -> None:
    """Until somebody sleeps on the clock."""
    async with asyncio.timeout(20):
        while not clock.pending():  # noqa: ASYNC110 - the clock is no asyncio object
            await asyncio.sleep(0.001)


async def test_who_waits_for_a_turn_elsewhere_sees_its_end(container: Container, clock: HandClock) -> None:
    here, there = container(), container()
    question = asked(session_of(clock))
    await there.create(question, most=9)
    waiting = asyncio.create_task(here.changed(question))
    await settle(clock)
    await there.save(replace(question, turn=None, version=question.version + 1))
    assert not waiting.done()
    clock.advance(LOOK_SECONDS)
    async with asyncio.timeout(20):
        await waiting


async def test_who_waits_for_a_turn_that_died_is_told(container: Container, clock: HandClock) -> None:
    question = asked(session_of(clock))
    await container().create(question, most=9)
    waiting = asyncio.create_task(container().changed(question))
    await settle(clock)
    clock.advance(LEASE_SECONDS)
    async with asyncio.timeout(20):
        await waiting


async def test_there_are_never_more_than_so_many_whoever_makes_them(container: Container, clock: HandClock) -> None:
    stores = [container() for _ in range(4)]
    made = await asyncio.gather(
        *(stores[n % 4].create(session_of(clock, key=SessionKey("key:1", f"{n}")), most=5) for n in range(12)),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in made if outcome is not None] == [TooManySessions] * 7
    assert len(await stores[0].listed("key:1")) == 5


async def test_sessions_that_have_expired_make_room(container: Container, clock: HandClock) -> None:
    store = container()
    for n in range(3):
        await store.create(session_of(clock, key=SessionKey("key:1", f"{n}")), most=3)
    clock.advance(3600)
    for n in range(3, 6):
        await store.create(session_of(clock, key=SessionKey("key:1", f"{n}")), most=3)
    with pytest.raises(TooManySessions):
        await store.create(session_of(clock, key=SessionKey("key:1", "6")), most=3)


async def test_an_expired_session_that_is_deleted_makes_no_room_twice(container: Container, clock: HandClock) -> None:
    store = container()
    named = [session_of(clock, key=SessionKey("key:1", f"{n}")) for n in range(5)]
    for session in named[:2]:
        await store.create(session, most=2)
    clock.advance(3600)
    for session in named[2:4]:
        await store.create(replace(session, expires_at=clock.time() + 60), most=2)
    await store.delete(named[0].key)
    with pytest.raises(TooManySessions):
        await store.create(replace(named[4], expires_at=clock.time() + 60), most=2)


async def test_a_large_session_whose_deletion_was_not_told_leaves_nothing_either(
    container: Container, clock: HandClock, aws_state: StateOfTest
) -> None:
    await container().create(session_of(clock, messages=(LARGE,)), most=9)
    lost = SessionsInTable(AnswersLost(aws_state.clients, aws_state.name), aws_state.bucket, clock=clock)
    await lost.delete(KEY)
    assert aws_state.objects() == []
    assert [item["sk"] for item in aws_state.items()] == ["count"]


async def test_a_large_session_lies_in_the_bucket_once(
    container: Container, clock: HandClock, aws_state: StateOfTest
) -> None:
    store = container()
    session = session_of(clock, messages=(LARGE,))
    await store.create(session, most=9)
    (first,) = aws_state.objects()
    later = replace(session, version=2, messages=(LARGE, Message(role="assistant", content="a")))
    await store.save(later)
    (second,) = aws_state.objects()
    assert second != first
    assert await container().load(KEY) == later
    with pytest.raises(SessionConflict):
        await store.save(replace(session, version=2))
    with pytest.raises(SessionConflict):
        await store.create(session, most=9)
    assert aws_state.objects() == [second]
    await store.save(replace(later, version=3, messages=()))
    assert aws_state.objects() == []


async def test_a_large_session_that_is_deleted_leaves_nothing(
    container: Container, clock: HandClock, aws_state: StateOfTest
) -> None:
    await container().create(session_of(clock, messages=(LARGE,)), most=9)
    await container().delete(KEY)
    assert aws_state.objects() == []
    assert [item["sk"] for item in aws_state.items()] == ["count"]


class AnswersLost(Table):
    """Every write is done, and its answer lost: what is tried again meets what the first try has made."""

    async def put(self, item: Item, *, condition: Any = None) -> Item | None:
        await super().put(item, condition=condition)
        raise ConditionFailed

    async def transact(self, writes: Any) -> None:
        await super().transact(writes)
        raise ConditionFailed(("ConditionalCheckFailed", "None"))


async def test_a_write_whose_answer_was_lost_is_no_conflict(
    container: Container, clock: HandClock, aws_state: StateOfTest
) -> None:
    store = SessionsInTable(AnswersLost(aws_state.clients, aws_state.name), aws_state.bucket, clock=clock)
    session = session_of(clock, messages=(LARGE,))
    await store.create(session, most=9)
    later = replace(session, version=2)
    await store.save(later)
    assert await container().load(KEY) == later


async def test_a_table_that_cannot_be_reached_is_a_503_that_says_what_still_works(
    clock: HandClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("infra.aws.ATTEMPTS", 1)
    nowhere = Clients(
        endpoint_url="http://127.0.0.1:9", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x"
    )
    store = SessionsInTable(Table(nowhere, "t"), Bucket(nowhere, "b"), clock=clock)
    with pytest.raises(StoreUnavailable) as failed:
        await store.load(KEY)
    wire = to_wire(failed.value)
    assert (wire.status, wire.code, wire.headers["x-should-retry"]) == (503, "sessions_unavailable", "true")
    assert "without a session" in wire.message
    assert "127.0.0.1:9" not in wire.message
    assert "127.0.0.1:9" in caplog.text
    nowhere.close()
