"""Responses and conversations in DynamoDB and S3: what a store in one process's memory cannot get wrong."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import openai
import pytest

from functions.shared import SharedState
from functions.state import response_jobs
from infra.aws import Clients, ConditionFailed
from infra.orphans import DAY
from infra.table import Bucket, Item, Key, Table
from tests.web.doubles import HandClock
from tests.web.response_kit import KEYS, ask, assistant, configured, seen, user
from tests.web.test_stored_contract import KEY, TALK, item, response_of, talk_of
from web.clock import RealClock
from web.errors import to_wire
from web.stored_errors import ConversationLocked, ResponsesUnavailable
from web.stored_table import FRESH_SECONDS, LEASE_SECONDS, ResponsesInTable

if TYPE_CHECKING:
    from collections.abc import Callable

    from functions.engines.scripted_server import ScriptedServer
    from tests.aws_kit import StateOfTest

LARGE = item("x" * 70_000)
GET, PUT, UPDATE, TRANSACT = (f"dynamodb:{name}" for name in ("GetItem", "PutItem", "UpdateItem", "TransactWriteItems"))


@pytest.fixture
def container(aws_state: StateOfTest, clock: HandClock) -> Callable[[], ResponsesInTable]:
    """Each call is the store of a container of its own."""
    return lambda: ResponsesInTable(aws_state.table, aws_state.bucket, clock=clock)


Container = "Callable[[], ResponsesInTable]"


async def test_a_conversation_whose_container_died_is_free_again_in_a_while(
    container: Container, clock: HandClock
) -> None:
    await container().create(talk_of())
    dead = await container().claim(TALK, "dead")
    assert dead is not None
    clock.advance(LEASE_SECONDS - 1)
    with pytest.raises(ConversationLocked):
        await container().claim(TALK, "next")
    clock.advance(1)
    assert await container().claim(TALK, "next") is not None
    with pytest.raises(ConversationLocked):
        await container().claim(TALK, "another")


async def test_a_turn_that_goes_on_keeps_its_conversation(container: Container, clock: HandClock) -> None:
    store = container()
    await store.create(talk_of())
    await store.claim(TALK, "t")
    for _ in range(3):
        clock.advance(LEASE_SECONDS / 2)
        await store.renew(TALK, "t")
    with pytest.raises(ConversationLocked):
        await container().claim(TALK, "u")


async def test_what_is_large_lies_in_the_bucket_as_long_as_it_is_kept(
    container: Container, clock: HandClock, aws_state: StateOfTest
) -> None:
    store = container()
    await store.keep(response_of(clock, items=(LARGE,)))
    assert await container().load(KEY) == response_of(clock, items=(LARGE,))
    await store.create(talk_of(items=(LARGE,)))
    first = set(aws_state.objects())
    assert sorted(name.partition("/")[0] for name in first) == ["conversations", "responses"]
    claimed = await store.claim(TALK, "t")
    assert claimed is not None
    await store.settle(claimed.with_items((*claimed.items, item("b"))))
    assert len(aws_state.objects()) == 2
    assert len(first & set(aws_state.objects())) == 1, "those of the last turn are gone"
    found = await container().conversation(TALK)
    assert found is not None
    assert found.items == (LARGE, item("b"))
    claimed = await store.claim(TALK, "t")
    assert claimed is not None
    await store.settle(claimed.with_items(()))
    assert len(aws_state.objects()) == 1
    await store.delete(KEY)
    await store.remove(TALK)
    assert aws_state.objects() == []
    assert aws_state.items() == []


async def test_an_object_whose_item_has_ended_is_removed_by_the_housekeeping(
    container: Container, clock: HandClock, aws_state: StateOfTest
) -> None:
    store = container()
    await store.keep(response_of(clock, items=(LARGE,)))
    await store.create(talk_of(items=(LARGE,)))
    (ended,) = [one for one in aws_state.items() if one["pk"].startswith("response#")]
    assert float(ended["ttl"]) == int(response_of(clock).expires_at)
    await aws_state.table.delete(Key(ended["pk"], ended["sk"]))  # as DynamoDB does then
    later = HandClock()
    later.advance(time.time() + 2 * DAY - later.time())
    state = SharedState(aws_state.clients, aws_state.table, aws_state.bucket, None)  # type: ignore[arg-type]
    for job in response_jobs(state, later).values():
        while await job():
            pass
    (left,) = aws_state.objects()
    assert left.startswith("conversations/")


class AnswersLost(Table):
    """Every conditional write is done, and its answer lost: what is tried again meets what the first try has made."""

    async def transact(self, writes: Any) -> None:
        await super().transact(writes)
        raise ConditionFailed(("ConditionalCheckFailed", "None"))

    async def update(self, *args: Any, **options: Any) -> Item:
        await super().update(*args, **options)
        return await super().update(*args, **options)

    async def put(self, item: Item, **options: Any) -> Item | None:
        await super().put(item, **options)
        return await super().put(item, **options)


async def test_a_write_whose_answer_was_lost_doubles_nothing(
    container: Container, clock: HandClock, aws_state: StateOfTest
) -> None:
    store = ResponsesInTable(AnswersLost(aws_state.clients, aws_state.name), aws_state.bucket, clock=clock)
    await store.create(talk_of())
    claimed = await store.claim(TALK, "t")
    assert claimed is not None
    await store.settle(claimed.with_items((*claimed.items, LARGE)), response=response_of(clock))
    found = await container().conversation(TALK)
    assert found is not None
    assert found.items == (item("a"), LARGE)
    assert await container().load(KEY) == response_of(clock)
    assert len(aws_state.objects()) == 1


async def test_the_table_is_asked_whether_it_is_there_unless_it_has_just_answered(
    container: Container, clock: HandClock, aws_state: StateOfTest
) -> None:
    store = container()
    await store.check()
    await store.check()
    assert aws_state.calls == [GET]
    clock.advance(FRESH_SECONDS + 1)
    await store.check()
    assert aws_state.calls == [GET, GET]


async def test_a_table_that_cannot_be_reached_is_a_503_that_says_what_still_works(
    clock: HandClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("infra.aws.ATTEMPTS", 1)
    nowhere = Clients(
        endpoint_url="http://127.0.0.1:9", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x"
    )
    store = ResponsesInTable(Table(nowhere, "t"), Bucket(nowhere, "b"), clock=clock)
    for asking in (store.check(), store.load(KEY), store.claim(TALK, "t"), store.remove(TALK)):
        with pytest.raises(ResponsesUnavailable) as failed:
            await asking
    wire = to_wire(failed.value)
    assert (wire.status, wire.code, wire.headers["x-should-retry"]) == (503, "responses_unavailable", "true")
    assert "'store': false" in wire.message
    assert "127.0.0.1:9" not in wire.message
    assert "127.0.0.1:9" in caplog.text
    nowhere.close()


class TestService:
    """The same under the application, asked by the SDK."""

    @pytest.fixture
    def serve_state(
        self, serve: Any, engine: ScriptedServer, aws_state: StateOfTest
    ) -> Callable[[], openai.AsyncOpenAI]:
        """Each call is a container of its own, which knows nothing but the table and the bucket."""

        def start() -> openai.AsyncOpenAI:
            store = ResponsesInTable(aws_state.table, aws_state.bucket, clock=RealClock())
            served = serve(engine, settings=configured(keys=True), responses=store)
            client: openai.AsyncOpenAI = served.sdk(api_key=KEYS["ann"])
            return client

        return start

    async def test_what_one_container_has_stored_another_goes_on_from(
        self, serve_state: Callable[[], openai.AsyncOpenAI], engine: ScriptedServer
    ) -> None:
        async with serve_state() as here, serve_state() as there:
            first = await here.responses.create(**ask("one", says="eins"))
            talk = await here.conversations.create(metadata={"a": "b"}, items=[{"role": "user", "content": "zero"}])
            second = await there.responses.create(previous_response_id=first.id, **ask("x" * 70_000, says="zwei"))
            await there.responses.create(conversation=talk.id, **ask("one", says="eins"))
            third = await here.responses.create(previous_response_id=second.id, **ask("three", says="drei"))
            assert seen(engine) == [
                user("one"), assistant("eins"), user("x" * 70_000), assistant("zwei"), user("three"),
            ]  # fmt: skip
            await here.responses.create(conversation=talk.id, **ask("two"))
            assert seen(engine) == [user("zero"), user("one"), assistant("eins"), user("two")]
            assert (await there.responses.retrieve(third.id)).output_text == "drei"
            assert (await there.conversations.retrieve(talk.id)).metadata == {"a": "b"}

    async def test_a_stored_response_costs_two_calls_and_one_that_is_not_none(
        self, serve_state: Callable[[], openai.AsyncOpenAI], aws_state: StateOfTest
    ) -> None:
        async with serve_state() as client:

            async def calls(**request: Any) -> list[str]:
                aws_state.calls.clear()
                self.last = await client.responses.create(**ask(), **request)
                return list(aws_state.calls)

            assert await calls(store=False) == []
            assert await calls() == [GET, PUT]
            assert await calls() == [PUT], "the table was heard of just now"
            assert await calls(previous_response_id=self.last.id) == [GET, PUT]
            talk = await client.conversations.create()
            assert await calls(conversation=talk.id) == [UPDATE, TRANSACT]
            assert await calls(conversation=talk.id, store=False) == [UPDATE, TRANSACT]
