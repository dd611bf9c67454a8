"""Conversations of the Responses API as users of OpenAI's SDK see them, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import aiohttp
import openai
import pytest
from openai.types.conversations import ConversationItem
from pydantic import TypeAdapter

from tests.web.conftest import MODEL, until
from tests.web.response_kit import KEYS, OSLO, WEATHER, ask, assistant, configured, seen, user
from web.clock import RealClock
from web.stored import Conversation, StoredResponse
from web.stored_errors import ResponsesUnavailable
from web.stored_memory import ResponsesInMemory

if TYPE_CHECKING:
    from functions.engines.scripted_server import ScriptedServer
    from tests.web.conftest import Served
    from tests.web.doubles import HandEngine

pytestmark = pytest.mark.slow

Sdk = Any
UNKNOWN = "conv_" + "0" * 32


@pytest.fixture
def client(served: Served, sdk: Sdk) -> openai.AsyncOpenAI:
    made: openai.AsyncOpenAI = sdk(served)
    return made


async def texts(client: openai.AsyncOpenAI, conversation: str) -> list[str]:
    """What was said in it, the oldest first."""
    items = client.conversations.items.list(conversation, order="asc")
    return [item.content[0].text async for item in items]  # type: ignore[union-attr]


async def test_a_conversation_is_made_shown_described_and_deleted(client: openai.AsyncOpenAI) -> None:
    made = await client.conversations.create(metadata={"a": "b"})
    assert (made.object, made.metadata) == ("conversation", {"a": "b"})
    assert await client.conversations.retrieve(made.id) == made
    changed = await client.conversations.update(made.id, metadata={"c": "d"})
    assert (changed.id, changed.created_at, changed.metadata) == (made.id, made.created_at, {"c": "d"})
    assert (await client.conversations.update(made.id, metadata=None)).metadata == {}
    gone = await client.conversations.delete(made.id)
    assert (gone.id, gone.object, gone.deleted) == (made.id, "conversation.deleted", True)
    for asking in (client.conversations.retrieve(made.id), client.conversations.delete(made.id)):
        with pytest.raises(openai.NotFoundError) as caught:
            await asking
        assert caught.value.code == "conversation_not_found"


async def test_items_are_added_listed_shown_and_taken_out(client: openai.AsyncOpenAI) -> None:
    items = client.conversations.items
    talk = await client.conversations.create(items=[{"role": "user", "content": "a"}])
    added = await items.create(talk.id, items=[{"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}])
    assert [item.role for item in added.data] == ["assistant", "user"]  # type: ignore[union-attr]
    assert (added.first_id, added.last_id, added.has_more) == (added.data[0].id, added.data[1].id, False)
    assert await texts(client, talk.id) == ["a", "b", "c"]
    page = await items.list(talk.id, limit=2)
    assert [item.id for item in page.data] == [added.last_id, added.first_id]
    assert page.has_more
    shown = await items.retrieve(added.first_id, conversation_id=talk.id)
    assert shown == added.data[0]
    assert (await items.delete(added.first_id, conversation_id=talk.id)).id == talk.id
    assert await texts(client, talk.id) == ["a", "c"]
    for asking in (
        items.retrieve(added.first_id, conversation_id=talk.id), items.delete(added.first_id, conversation_id=talk.id),
    ):  # fmt: skip
        with pytest.raises(openai.NotFoundError) as caught:
            await asking
        assert caught.value.code == "item_not_found"


async def test_a_response_sees_what_was_said_and_is_added_with_its_input(
    client: openai.AsyncOpenAI, engine: ScriptedServer
) -> None:
    talk = await client.conversations.create(items=[{"role": "developer", "content": "be brief"}])
    first = await client.responses.create(conversation=talk.id, **ask("one", says="eins"))
    assert first.conversation is not None
    assert first.conversation.id == talk.id
    stream = await client.responses.create(conversation={"id": talk.id}, stream=True, **ask("two", says="zwei"))
    [event async for event in stream]
    assert seen(engine) == [{"role": "system", "content": "be brief"}, user("one"), assistant("eins"), user("two")]
    assert await texts(client, talk.id) == ["be brief", "one", "eins", "two", "zwei"]
    await client.responses.create(model=MODEL, conversation=talk.id, extra_body={"x_scripted": {"text": "drei"}})
    assert seen(engine)[-1] == assistant("zwei"), "it may just go on"
    sessions = {request["session"] for request in engine.state()["requests"]}
    assert sessions == {talk.id}, "they meet the same engine"


async def test_items_are_the_sdks_types_to_the_letter(client: openai.AsyncOpenAI, served: Served) -> None:
    talk = await client.conversations.create()
    script = {"text": "I look.", "reasoning": "hm", "tool_calls": [OSLO]}
    first = await client.responses.create(conversation=talk.id, tools=[WEATHER], **ask("Oslo?", script=script))
    call = next(item for item in first.output if item.type == "function_call")
    result: Any = [{"type": "function_call_output", "call_id": call.call_id, "output": "rain"}]
    await client.responses.create(conversation=talk.id, tools=[WEATHER], **ask(says="Rain.") | {"input": result})
    url = f"{served.url}/v1/conversations/{talk.id}/items?order=asc"
    async with aiohttp.ClientSession() as http, http.get(url) as response:
        page = await response.json()
    items = TypeAdapter(list[ConversationItem]).validate_python(page["data"])
    assert [item.type for item in items] == [
        "message", "reasoning", "message", "function_call", "function_call_output", "message",
    ]  # fmt: skip
    assert items[3].id == call.id
    assert len({item.id for item in items}) == 6


async def test_a_response_that_is_not_stored_is_a_part_of_its_conversation_all_the_same(
    client: openai.AsyncOpenAI,
) -> None:
    talk = await client.conversations.create()
    told = await client.responses.create(conversation=talk.id, store=False, **ask("one", says="eins"))
    assert await texts(client, talk.id) == ["one", "eins"]
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(told.id)


@pytest.mark.parametrize("end", ["failed", "refused", "left"])
async def test_a_response_that_came_to_nothing_is_no_part_of_its_conversation_and_frees_it(
    client: openai.AsyncOpenAI, engine: ScriptedServer, end: str
) -> None:
    talk = await client.conversations.create()
    match end:
        case "failed":
            script: dict[str, Any] = {"error_after": 2}
        case "refused":
            script = {"error_after": 0, "error_status": 400}
        case _:
            script = {"gap": 60}
    with contextlib.suppress(openai.BadRequestError):
        stream = await client.responses.create(conversation=talk.id, stream=True, **ask("lost", script=script))
        async for event in stream:
            if event.type == "response.output_text.delta" and end == "left":
                break
        await stream.close()
    await client.responses.create(conversation=talk.id, **ask("one", says="eins"))
    assert seen(engine) == [user("one")]
    assert await texts(client, talk.id) == ["one", "eins"]


async def test_two_responses_at_once_come_one_after_the_other(serve: Any, hand_engine: HandEngine, sdk: Sdk) -> None:
    client = sdk(serve(hand_engine.url, settings=configured(wait=30)))
    talk = await client.conversations.create()
    asking = [asyncio.create_task(client.responses.create(conversation=talk.id, **ask(text))) for text in ("a", "b")]
    for _ in range(2):
        request = await hand_engine.next()
        assert hand_engine.waiting() == 0
        await request.begin()
        await request.token("answer to " + request.json["messages"][-1]["content"], finish="stop")
        await request.end()
    assert {answer.status for answer in await asyncio.gather(*asking)} == {"completed"}
    said = await texts(client, talk.id)
    assert said in (["a", "answer to a", "b", "answer to b"], ["b", "answer to b", "a", "answer to a"])


async def test_who_waits_too_long_for_a_conversation_is_told_so(serve: Any, hand_engine: HandEngine, sdk: Sdk) -> None:
    client = sdk(serve(hand_engine.url, settings=configured(wait=0)))
    talk = await client.conversations.create(items=[{"role": "user", "content": "a"}])
    (there,) = (await client.conversations.items.list(talk.id)).data
    asking = asyncio.create_task(client.responses.create(conversation=talk.id, **ask("one")))
    request = await hand_engine.next()
    for other in (
        client.responses.create(conversation=talk.id, **ask("two")),
        client.conversations.items.create(talk.id, items=[{"role": "user", "content": "b"}]),
        client.conversations.items.delete(there.id, conversation_id=talk.id),
    ):  # fmt: skip
        with pytest.raises(openai.ConflictError) as caught:
            await other
        assert caught.value.code == "conversation_locked"
        assert caught.value.response.headers["x-should-retry"] == "true"
    assert (await client.conversations.update(talk.id, metadata={"a": "b"})).metadata == {"a": "b"}
    await request.begin()
    await request.token("eins", finish="stop")
    await request.end()
    await asking
    assert await texts(client, talk.id) == ["a", "one", "eins"]
    assert (await client.conversations.retrieve(talk.id)).metadata == {"a": "b"}


async def test_a_conversation_that_is_deleted_under_a_response_fails_it(
    serve: Any, hand_engine: HandEngine, sdk: Sdk
) -> None:
    client = sdk(serve(hand_engine.url))
    talk = await client.conversations.create()
    stream = asyncio.create_task(client.responses.create(conversation=talk.id, stream=True, **ask("one")))
    request = await hand_engine.next()
    await request.begin()
    await request.token("eins")
    events = aiter(await stream)
    created = await anext(events)
    await client.conversations.delete(talk.id)
    await request.token("", finish="stop")
    await request.end()
    *_, last = [event async for event in events]
    assert last.type == "response.failed"
    assert last.response.error.type == "conversation_gone"
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(created.response.id)


class TestMistakes:
    async def test_a_conversation_that_is_not_there(self, client: openai.AsyncOpenAI) -> None:
        for name in (UNKNOWN, "conv_1", "x" * 5000):
            with pytest.raises(openai.NotFoundError) as caught:
                await client.responses.create(conversation=name, **ask())
            assert caught.value.code == "conversation_not_found"

    async def test_two_things_to_go_on_from(self, client: openai.AsyncOpenAI) -> None:
        first = await client.responses.create(**ask())
        talk = await client.conversations.create()
        with pytest.raises(openai.BadRequestError, match="Mutually exclusive") as caught:
            await client.responses.create(conversation=talk.id, previous_response_id=first.id, **ask())
        assert caught.value.code == "mutually_exclusive_parameters"

    async def test_what_is_there_already(self, client: openai.AsyncOpenAI) -> None:
        talk = await client.conversations.create(items=[{"role": "user", "content": "a"}])
        there = (await client.conversations.items.list(talk.id)).data[0].to_dict()
        with pytest.raises(openai.BadRequestError) as caught:
            await client.conversations.items.create(talk.id, items=[there])  # type: ignore[list-item]
        assert (caught.value.code, caught.value.param) == ("duplicate_item", "items[0].id")
        with pytest.raises(openai.BadRequestError) as caught:
            await client.responses.create(conversation=talk.id, **ask() | {"input": [there]})
        assert (caught.value.code, caught.value.param) == ("duplicate_item", "input[0].id")
        await client.responses.create(conversation=talk.id, **ask("b"))

    @pytest.mark.parametrize(
        ("path", "body", "param"),
        [
            ("", {"items": [{"role": "user", "content": "x"}] * 21}, "items"),
            ("", {"items": [{"role": "bot", "content": "x"}]}, "items[0].role"),
            ("", {"items": [{"type": "item_reference", "id": "msg_1"}]}, "items[0].type"),
            ("", {"metadata": {"a": 1}}, "metadata.a"),
            ("", {"metadata": {str(n): "" for n in range(17)}}, "metadata"),
            ("/{id}", {}, "metadata"),
            ("/{id}/items", {}, "items"),
            ("/{id}/items", {"items": []}, "items"),
        ],
    )
    async def test_bodies_that_are_none(
        self, client: openai.AsyncOpenAI, served: Served, path: str, body: Any, param: str
    ) -> None:
        talk = await client.conversations.create()
        url = f"{served.url}/v1/conversations" + path.format(id=talk.id)
        async with aiohttp.ClientSession() as http, http.post(url, json=body) as response:
            assert response.status == 400
            assert (await response.json())["error"]["param"] == param


async def test_nobody_sees_another_ones_conversations(serve: Any, engine: ScriptedServer, sdk: Sdk) -> None:
    served = serve(engine, settings=configured(keys=True))
    ann, bob = (sdk(served, api_key=KEYS[name]) for name in ("ann", "bob"))
    talk = await ann.conversations.create(items=[{"role": "user", "content": "a"}])
    (there,) = (await ann.conversations.items.list(talk.id)).data
    for asking in (
        bob.conversations.retrieve(talk.id), bob.conversations.update(talk.id, metadata={}),
        bob.conversations.items.list(talk.id), bob.conversations.items.retrieve(there.id, conversation_id=talk.id),
        bob.conversations.items.create(talk.id, items=[{"role": "user", "content": "b"}]),
        bob.conversations.items.delete(there.id, conversation_id=talk.id),
        bob.responses.create(conversation=talk.id, **ask()), bob.conversations.delete(talk.id),
    ):  # fmt: skip
        with pytest.raises(openai.NotFoundError):
            await asking
    assert await texts(ann, talk.id) == ["a"]


class SlowClaims(ResponsesInMemory):
    """`held`: a claim waits. `broken`: what a turn has come to cannot be kept."""

    def __init__(self) -> None:
        super().__init__(clock=RealClock())
        self.held = self.broken = False
        self.claiming = 0

    async def claim(self, key: Any, turn: str) -> Conversation | None:
        claimed = await super().claim(key, turn)
        self.claiming += 1
        await until(lambda: not self.held, seconds=30)
        return claimed

    async def settle(self, conversation: Conversation, *, response: StoredResponse | None = None) -> None:
        if self.broken:
            raise ResponsesUnavailable
        await super().settle(conversation, response=response)


async def test_who_leaves_while_he_claims_a_conversation_leaves_it_free(
    serve: Any, engine: ScriptedServer, sdk: Sdk
) -> None:
    store = SlowClaims()
    served = serve(engine, responses=store)
    client = sdk(served)
    talk = await client.conversations.create()
    store.held = True
    raw = await served.raw({"model": MODEL, "input": "lost", "conversation": talk.id}, "/v1/responses")
    await until(lambda: store.claiming == 1, seconds=20)
    raw.leave()
    await asyncio.sleep(0)
    store.held = False
    await client.responses.create(conversation=talk.id, **ask("one", says="eins"))
    assert "one" in await texts(client, talk.id)


async def test_what_cannot_be_kept_is_told_and_frees_the_conversation(
    serve: Any, engine: ScriptedServer, sdk: Sdk
) -> None:
    store = SlowClaims()
    client = sdk(serve(engine, responses=store, settings=configured(wait=0)))
    talk = await client.conversations.create()
    store.broken = True
    with pytest.raises(openai.InternalServerError) as caught:
        await client.responses.create(conversation=talk.id, **ask("one"))
    assert caught.value.code == "responses_unavailable"
    with pytest.raises(openai.InternalServerError):
        await client.conversations.items.create(talk.id, items=[{"role": "user", "content": "b"}])
    store.broken = False
    await client.responses.create(conversation=talk.id, **ask("two", says="zwei"))
    assert await texts(client, talk.id) == ["two", "zwei"]
