"""What every store of sessions must do. Another store joins by another parameter of the fixture."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from tests.aws_kit import StateOfTest
from tests.web.doubles import HandClock
from web import session_table
from web.session_errors import SessionConflict, TooManySessions
from web.session_store import SessionsInMemory
from web.session_table import SessionsInTable
from web.sessions import Message, Session, SessionKey, SessionStore

TTL = 100.0


@pytest.fixture(params=["memory", "table", pytest.param("bucket", marks=pytest.mark.slow)])
def store(request: pytest.FixtureRequest, clock: HandClock, monkeypatch: pytest.MonkeyPatch) -> SessionStore:
    if request.param == "memory":
        return SessionsInMemory(clock=clock)
    if request.param == "bucket":
        monkeypatch.setattr(session_table, "INLINE_BYTES", 1)
    state: StateOfTest = request.getfixturevalue("aws_state")
    return SessionsInTable(state.table, state.bucket, clock=clock)


def session_of(clock: HandClock, name: str = "s", *, owner: str = "public", **more: Any) -> Session:
    return Session(key=SessionKey(owner, name), system="sys", **{"expires_at": clock.time() + TTL, **more})


async def test_what_was_kept_is_there_as_it_was(store: SessionStore, clock: HandClock) -> None:
    session = session_of(clock, messages=(Message(role="user", content="ä\n", tokens=3),))
    assert await store.load(session.key) is None
    await store.create(session, most=1)
    assert await store.load(session.key) == session
    later = replace(session, version=2, messages=())
    await store.save(later)
    assert await store.load(session.key) == later


async def test_a_session_is_created_once(store: SessionStore, clock: HandClock) -> None:
    await store.create(session_of(clock), most=9)
    with pytest.raises(SessionConflict):
        await store.create(session_of(clock), most=9)


@pytest.mark.parametrize("change", [{"version": 1}, {"version": 3}, {"version": 2, "token": "another"}])
async def test_only_the_next_version_of_the_same_session_takes_its_place(
    store: SessionStore, clock: HandClock, change: Any
) -> None:
    session = session_of(clock)
    await store.create(session, most=1)
    with pytest.raises(SessionConflict):
        await store.save(replace(session, **change))
    assert await store.load(session.key) == session


async def test_of_two_who_change_it_at_once_one_is_told(store: SessionStore, clock: HandClock) -> None:
    session = session_of(clock)
    await store.create(session, most=1)
    both = [store.save(replace(session, version=2, turn=name)) for name in "ab"]
    outcomes = await asyncio.gather(*both, return_exceptions=True)
    assert [isinstance(outcome, SessionConflict) for outcome in outcomes].count(True) == 1


async def test_what_was_deleted_is_gone_and_cannot_be_saved(store: SessionStore, clock: HandClock) -> None:
    session = session_of(clock)
    await store.delete(session.key)
    await store.create(session, most=1)
    await store.delete(session.key)
    assert await store.load(session.key) is None
    with pytest.raises(SessionConflict):
        await store.save(replace(session, version=2))


async def test_a_certain_version_is_deleted_and_no_other(store: SessionStore, clock: HandClock) -> None:
    session = session_of(clock)
    await store.create(session, most=1)
    for other in (replace(session, version=2), replace(session, token="another")):
        await store.delete(session.key, only=other)
        assert await store.load(session.key) == session
    await store.delete(session.key, only=session)
    assert await store.load(session.key) is None


async def test_an_owner_sees_his_own_the_last_used_first(store: SessionStore, clock: HandClock) -> None:
    for name in "abc":
        await store.create(session_of(clock, name), most=9)
    await store.create(session_of(clock, "x", owner="key:1"), most=9)
    used = session_of(clock, "a")
    kept = await store.load(used.key)
    assert kept is not None
    await store.save(replace(kept, version=kept.version + 1))
    assert [one.id for one in await store.listed("public")] == ["a", "c", "b"]
    assert [one.id for one in await store.listed("key:1")] == ["x"]
    assert [one.id for one in await store.listed("key:2")] == []
    assert await store.load(SessionKey("key:1", "a")) is None


async def test_an_owner_has_so_many_at_once(store: SessionStore, clock: HandClock) -> None:
    await store.create(session_of(clock, "a"), most=2)
    clock.advance(30)
    await store.create(session_of(clock, "b"), most=2)
    with pytest.raises(TooManySessions) as refused:
        await store.create(session_of(clock, "c"), most=2)
    assert refused.value.retry_after == pytest.approx(TTL - 30)
    await store.create(session_of(clock, "c", owner="key:1"), most=2)
    await store.delete(SessionKey("public", "a"))
    await store.create(session_of(clock, "c"), most=2)
    clock.advance(TTL)
    await store.create(session_of(clock, "d"), most=1)
    assert [one.id for one in await store.listed("public")] == ["d"]


async def test_a_session_whose_time_has_come_is_gone_and_its_name_is_free(
    store: SessionStore, clock: HandClock
) -> None:
    session = session_of(clock)
    await store.create(session, most=1)
    clock.advance(TTL - 0.001)
    assert await store.load(session.key) is not None
    clock.advance(0.001)
    assert await store.load(session.key) is None
    assert [one.id for one in await store.listed("public")] == []
    with pytest.raises(SessionConflict):
        await store.save(replace(session, version=2))
    await store.create(session_of(clock), most=1)


async def test_a_session_does_not_expire_under_a_turn(store: SessionStore, clock: HandClock) -> None:
    session = session_of(clock, turn="t")
    await store.create(session, most=1)
    clock.advance(2 * TTL)
    ended = replace(session, turn=None, version=2, expires_at=clock.time() + TTL)
    await store.save(ended)
    assert await store.load(session.key) == ended


@pytest.mark.parametrize("change", ["save", "delete", "late"])
async def test_who_waits_for_a_change_is_told(store: SessionStore, clock: HandClock, change: str) -> None:
    session = session_of(clock)
    await store.create(session, most=1)
    waiting = asyncio.create_task(store.changed(session))
    if change == "late":
        waiting.cancel()
    else:
        await asyncio.sleep(0)
        assert not waiting.done()
    await (store.delete(session.key) if change == "delete" else store.save(replace(session, version=2)))
    async with asyncio.timeout(20):
        await (store.changed(session) if change == "late" else waiting)
