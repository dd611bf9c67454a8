"""What becomes of sessions whose time has come, whoever else is at work and wherever a process dies."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from infra.aws import StateUnavailable
from infra.orphans import DAY, Orphans
from infra.table import Bucket, Key, Table
from tests.web.doubles import HandClock
from web import session_archive
from web.session_archive import SessionArchive, archive_name
from web.session_errors import SessionConflict, StoreUnavailable
from web.session_items import OBJECTS
from web.session_table import LEASE_SECONDS, SessionsInTable
from web.sessions import Message, Session, SessionKey

if TYPE_CHECKING:
    from infra.aws import Clients
    from tests.aws_kit import StateOfTest

pytestmark = pytest.mark.slow

TTL = 3600
KEY = SessionKey("key:1", "chat/ä")
SAID = (Message(role="user", content="q", tokens=3), Message(role="assistant", content="", interrupted=True))
LARGE = Message(role="user", content="x" * 70_000)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


class Container:
    """The store of one container, and the housekeeping of another."""

    def __init__(self, state: StateOfTest, clock: HandClock) -> None:
        self.state, self.clock = state, clock
        self.store = SessionsInTable(state.table, state.bucket, clock=clock)
        self.archive = SessionArchive(state.table, state.bucket, clock=clock)

    async def keep(self, name: str = KEY.id, *messages: Message, **more: Any) -> Session:
        told: dict[str, Any] = {"system": "sys", "created_at": 1.0, "expires_at": self.clock.time() + TTL, **more}
        session = Session(key=SessionKey(KEY.owner, name), messages=messages, **told)
        await self.store.create(session, most=99)
        return session

    def archives(self) -> list[dict[str, Any]]:
        client = self.state.admin.client("s3")
        names = [name for name in self.state.objects() if name.startswith("archives/")]
        return [json.loads(client.get_object(Bucket=self.state.name, Key=name)["Body"].read()) for name in names]

    def bodies(self) -> list[str]:
        return [name for name in self.state.objects() if name.startswith(OBJECTS)]

    def kept(self) -> dict[str, Any]:
        """Its items by their `sk`."""
        return {item["sk"]: item for item in self.state.items()}


@pytest.fixture
def container(aws_state: StateOfTest, clock: HandClock) -> Container:
    return Container(aws_state, clock)


async def test_a_session_whose_time_has_come_becomes_an_archive_and_its_item_goes(
    container: Container, clock: HandClock
) -> None:
    session = await container.keep(KEY.id, LARGE, *SAID, title="T", model="m")
    clock.advance(TTL - 1)
    assert await container.archive.retire_due() == 0
    assert (len(container.bodies()), container.archives()) == (1, [])
    clock.advance(1)
    assert await container.archive.retire_due() == 1
    (kept,) = container.archives()
    assert kept == {
        "object": "session.archive", "format": 1, "owner": "key:1", "id": "chat/ä", "title": "T", "model": "m",
        "created_at": 1, "last_used_at": int(clock.time()) - TTL, "expired_at": int(clock.time()),
        "archived_at": int(clock.time()), "messages": session.history(),
    }  # fmt: skip
    assert kept["messages"][-1] == {"role": "assistant", "content": "", "interrupted": True}
    assert container.bodies() == []
    assert {name: item.get("count") for name, item in container.kept().items()} == {"count": 0}
    assert await container.archive.retire_due() == 0


async def test_an_archive_is_found_by_whose_it_was_and_what_it_was_called(
    container: Container, clock: HandClock
) -> None:
    session = await container.keep()
    clock.advance(TTL)
    await container.archive.retire_due()
    owner, name = (hashlib.sha256(part.encode()).hexdigest()[:32] for part in (KEY.owner, KEY.id))
    assert container.state.objects() == [f"archives/sessions/{owner}/{name}/{session.token}-1.json"]
    assert archive_name(KEY) == f"archives/sessions/{owner}/{name}/"


async def test_where_no_archive_is_wanted_there_is_none(aws_state: StateOfTest, clock: HandClock) -> None:
    container = Container(aws_state, clock)
    container.archive = SessionArchive(aws_state.table, aws_state.bucket, clock=clock, keep=False)
    await container.keep(KEY.id, LARGE)
    clock.advance(TTL)
    assert await container.archive.retire_due() == 1
    assert aws_state.objects() == []
    assert list(container.kept()) == ["count"]


async def test_two_jobs_at_once_archive_each_session_once(container: Container, clock: HandClock) -> None:
    for n in range(6):
        await container.keep(f"{n}")
    clock.advance(TTL)
    await container.keep("living")
    others = [SessionArchive(container.state.table, container.state.bucket, clock=clock) for _ in range(2)]
    # Two transactions on one counter may both be refused, and what is left is the next portion's.
    for _ in range(20):
        await asyncio.gather(*(other.retire_due() for other in others))
        if len(container.kept()) == 2:
            break
    assert sorted(one["id"] for one in container.archives()) == sorted(f"{n}" for n in range(6))
    assert container.kept()["count"]["count"] == 1
    assert [one.id for one in await container.store.listed(KEY.owner)] == ["living"]


async def test_a_turn_under_way_is_left_alone_and_keeps_no_other_from_its_place(
    container: Container, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_archive, "PORTION", 1)
    answered = await container.keep("answered", expires_at=clock.time() + 10, turn="t")
    clock.advance(11)
    await container.keep("idle", expires_at=clock.time() + 1)
    clock.advance(1)
    assert [await container.archive.retire_due() for _ in range(3)] == [1, 1, 0]
    assert [one["id"] for one in container.archives()] == ["idle"]
    assert await container.store.load(answered.key) == answered
    clock.advance(LEASE_SECONDS)  # its container has died
    assert await container.archive.retire_due() == 1
    (kept,) = [one for one in container.archives() if one["id"] == "answered"]
    assert kept["messages"][-1] == {"role": "assistant", "content": "", "interrupted": True}


class Interrupted(Table):
    """Something happens just before a transaction."""

    async def transact(self, writes: Any) -> None:
        await self.before()
        await super().transact(writes)

    async def before(self) -> None:
        raise NotImplementedError


async def test_a_session_that_is_used_again_meanwhile_lives_on_and_has_no_archive(
    aws_state: StateOfTest, clock: HandClock
) -> None:
    """By a container whose clock is behind."""
    container, late = Container(aws_state, clock), Container(aws_state, HandClock())
    session = await container.keep(KEY.id, LARGE)
    later = replace(session, version=2, messages=(*session.messages, *SAID), expires_at=session.expires_at + TTL)

    class UsedAgain(Interrupted):
        async def before(self) -> None:
            await late.store.save(later)

    clock.advance(TTL)
    table = UsedAgain(aws_state.clients, aws_state.name)
    assert await SessionArchive(table, aws_state.bucket, clock=clock).retire_due() == 0
    assert container.archives() == []
    assert await late.store.load(KEY) == later
    assert container.kept()["count"]["count"] == 1


async def test_a_turn_whose_container_comes_back_meanwhile_lives_on_and_has_no_archive(
    container: Container, clock: HandClock
) -> None:
    question = await container.keep(expires_at=clock.time() + 10, turn="t")

    class Back(Interrupted):
        async def before(self) -> None:
            assert await container.store._renew(question)

    clock.advance(LEASE_SECONDS)
    state = container.state
    assert await SessionArchive(Back(state.clients, state.name), state.bucket, clock=clock).retire_due() == 0
    assert container.archives() == []
    assert await container.store.load(KEY) == question


async def test_a_session_that_was_archived_and_begun_anew_meanwhile_keeps_its_archive(
    container: Container, clock: HandClock
) -> None:
    await container.keep()

    class Overtaken(Interrupted):
        async def before(self) -> None:
            assert await container.archive.retire_due() == 1
            await container.keep()

    clock.advance(TTL)
    table = Overtaken(container.state.clients, container.state.name)
    await SessionArchive(table, container.state.bucket, clock=clock).retire_due()
    assert len(container.archives()) == 1
    assert [one.id for one in await container.store.listed(KEY.owner)] == [KEY.id]


async def test_an_id_whose_session_has_expired_is_free_and_what_was_said_is_archived(
    container: Container, clock: HandClock
) -> None:
    first = await container.keep(KEY.id, LARGE)
    clock.advance(TTL)
    second = await container.keep()
    assert [one["messages"] for one in container.archives()] == [first.history()]
    assert await container.store.load(KEY) == second
    assert container.bodies() == []
    assert container.kept()["count"]["count"] == 1
    with pytest.raises(SessionConflict):
        await container.keep()


class Dying:
    """Calls to AWS until the process dies: before its `last` call, or as soon as that was done."""

    def __init__(self, clients: Clients, last: int, *, done: bool) -> None:
        self._clients, self._left, self._done = clients, last, done

    async def call(self, service: Any, operation: str, **arguments: Any) -> dict[str, Any]:
        self._left -= 1
        if self._left < 0 or (self._left == 0 and not self._done):
            raise StateUnavailable("dead")
        answer = await self._clients.call(service, operation, **arguments)
        if self._left == 0:
            raise StateUnavailable("dead")
        return answer


@pytest.mark.parametrize("done", [True, pytest.param(False, marks=pytest.mark.slow)])
async def test_wherever_a_job_dies_the_next_one_ends_its_work(
    container: Container, clock: HandClock, done: bool
) -> None:
    state, deaths = container.state, 0
    while True:
        state.empty()
        session = await container.keep(KEY.id, LARGE)
        clock.advance(TTL)
        dying: Any = Dying(state.clients, deaths + 1, done=done)
        job = SessionArchive(Table(dying, state.name), Bucket(dying, state.name), clock=clock)
        try:
            await job.retire_due()
        except StateUnavailable:
            deaths += 1
        else:
            break
        await container.archive.retire_due()
        assert [one["messages"] for one in container.archives()] == [session.history()]
        assert {name: item.get("count") for name, item in container.kept().items()} == {"count": 0}
        if container.bodies():
            await orphans(state)()
            assert container.bodies() == []
    assert deaths == 6  # of the calls: Query, GetItem, GetObject, PutObject, TransactWriteItems, DeleteObject


async def test_a_session_whose_object_is_gone_is_told_and_does_not_stay_for_ever(
    container: Container, clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    await container.keep(KEY.id, LARGE)
    (name,) = container.bodies()
    await container.state.bucket.delete(name)
    with pytest.raises(StoreUnavailable):
        await container.store.load(KEY)
    clock.advance(TTL)
    assert await container.archive.retire_due() == 1
    assert name in caplog.text
    assert (list(container.kept()), container.archives()) == (["count"], [])


async def test_what_cannot_be_archived_comes_last(
    container: Container, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_archive, "PORTION", 1)
    await container.keep("broken")
    await container.keep("whole")
    await container.state.table.put({**container.kept()["id#broken"], "body": b"{"})
    clock.advance(TTL)
    assert [await container.archive.retire_due() for _ in range(3)] == [1, 1, 0]
    assert [one["id"] for one in container.archives()] == ["whole"]
    assert float(container.kept()["id#broken"]["due_at"]) == clock.time() + session_archive.LATER


def orphans(state: StateOfTest, *, days: float = 2.0) -> Orphans:
    """As they are looked for in so many days."""
    return Orphans(state.table, state.bucket, prefix=OBJECTS, time=lambda: time.time() + days * DAY)


async def test_objects_that_no_item_names_are_removed_a_day_later(
    container: Container, clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    state = container.state
    await container.keep(KEY.id, LARGE)
    named = container.bodies()
    item = Key("session#key:1", f"id#{KEY.id}")
    await state.bucket.put("sessions/replaced", b"{}", of=item)
    await state.bucket.put("sessions/never-written", b"{}", of=Key("session#key:1", "id#none"))
    await state.bucket.put("sessions/somebody-else's", b"{}")
    await state.bucket.put("archives/sessions/x", b"{}")
    before = state.objects()
    assert await orphans(state, days=0.9)() == len(before) - 1
    assert state.objects() == before
    await forget_place(state)
    assert await orphans(state)() == len(before) - 1
    assert state.objects() == sorted(["archives/sessions/x", "sessions/somebody-else's", *named])
    assert "sessions/somebody-else's" in caplog.text
    assert await container.store.load(KEY) is not None


async def forget_place(state: StateOfTest) -> None:
    await state.table.delete(Key("job#orphans", OBJECTS))


async def test_they_are_looked_for_in_portions_and_again_a_day_later(
    container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.orphans.PORTION", 2)
    state = container.state
    for n in range(5):
        await state.bucket.put(f"sessions/{n}", b"{}", of=Key("session#nobody", f"{n}"))
    # Another container goes on where the first one was.
    assert [await orphans(state)() for _ in range(4)] == [2, 2, 1, 0]
    assert state.objects() == []
    await state.bucket.put("sessions/1", b"{}", of=Key("session#nobody", "1"))
    state.calls.clear()
    assert await orphans(state, days=2.9)() == 0
    assert state.calls == ["dynamodb:GetItem"]
    assert await orphans(state, days=3.1)() == 1
    assert state.objects() == []
