"""Stored responses as users of OpenAI's SDK see them, over real sockets."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aiohttp
import openai
import pytest
from openai.types.responses import ResponseItem
from pydantic import TypeAdapter

from tests.web.conftest import MODEL
from tests.web.doubles import HandClock
from tests.web.response_kit import KEYS, OSLO, TOO_LONG, WEATHER, ask, assistant, configured, eventually, seen, user
from web.clock import RealClock
from web.stored_memory import ResponsesInMemory

if TYPE_CHECKING:
    from functions.engines.scripted_server import ScriptedServer
    from tests.web.conftest import Served
    from tests.web.doubles import HandEngine

pytestmark = pytest.mark.slow

Sdk = Any


@pytest.fixture
def client(served: Served, sdk: Sdk) -> openai.AsyncOpenAI:
    made: openai.AsyncOpenAI = sdk(served)
    return made


class TestOne:
    @pytest.mark.parametrize("stream", [False, True])
    async def test_is_retrieved_as_it_was_told(self, client: openai.AsyncOpenAI, stream: bool) -> None:
        request = ask(instructions="brief", metadata={"a": "b"}, script={"tokens": 3})
        if stream:
            *_, last = [event async for event in await client.responses.create(stream=True, **request)]
            told = last.response
        else:
            told = await client.responses.create(**request)
        found = await client.responses.retrieve(told.id)
        assert found.to_dict() == told.to_dict()
        assert (found.status, found.output_text, found.metadata) == ("completed", "t0 t1 t2 ", {"a": "b"})

    async def test_is_not_stored_unless_its_caller_wants_it(self, client: openai.AsyncOpenAI) -> None:
        told = await client.responses.create(store=False, **ask())
        assert told.to_dict()["store"] is False
        with pytest.raises(openai.NotFoundError) as caught:
            await client.responses.retrieve(told.id)
        assert caught.value.code == "response_not_found"
        with pytest.raises(openai.BadRequestError) as refused:
            await client.responses.create(previous_response_id=told.id, **ask())
        assert (refused.value.code, refused.value.param) == ("previous_response_not_found", "previous_response_id")

    async def test_is_gone_when_it_is_deleted(self, client: openai.AsyncOpenAI, served: Served) -> None:
        told = await client.responses.create(**ask())
        async with aiohttp.ClientSession() as http, http.delete(f"{served.url}/v1/responses/{told.id}") as response:
            assert await response.json() == {"id": told.id, "object": "response", "deleted": True}
        for asking in (
            client.responses.retrieve, client.responses.delete, client.responses.cancel,
            client.responses.input_items.list,
        ):  # fmt: skip
            with pytest.raises(openai.NotFoundError):
                await asking(told.id)

    async def test_cannot_be_cancelled_nor_streamed_again(self, client: openai.AsyncOpenAI) -> None:
        told = await client.responses.create(**ask())
        with pytest.raises(openai.BadRequestError, match="Cannot cancel a synchronous response"):
            await client.responses.cancel(told.id)
        with pytest.raises(openai.BadRequestError, match="background") as caught:
            await client.responses.retrieve(told.id, stream=True, starting_after=1)
        assert caught.value.param == "stream"

    async def test_that_was_cut_for_its_length_is_stored_as_incomplete(self, client: openai.AsyncOpenAI) -> None:
        told = await client.responses.create(max_output_tokens=2, **ask())
        found = await client.responses.retrieve(told.id)
        assert (found.status, found.output_text) == ("incomplete", "t0 t1 ")

    async def test_that_failed_in_mid_stream_is_stored_as_failed(self, client: openai.AsyncOpenAI) -> None:
        events = [event async for event in await client.responses.create(stream=True, **ask(script={"error_after": 2}))]
        found = await client.responses.retrieve(events[-1].response.id)
        assert (found.status, found.output_text) == ("failed", "t0 t1 ")
        assert found.error is not None

    async def test_whose_caller_left_in_mid_stream_is_stored_as_far_as_it_was_told(
        self, client: openai.AsyncOpenAI, engine: ScriptedServer
    ) -> None:
        stream = await client.responses.create(stream=True, **ask(script={"tokens": 9, "gap": 60}))
        async for event in stream:
            if event.type == "response.created":
                told = event.response.id
            if event.type == "response.output_text.delta":
                break
        await stream.close()
        found = await eventually(client, told)
        assert (found.status, found.output_text) == ("cancelled", "t0 ")
        assert found.output[0].status == "incomplete"
        await client.responses.create(previous_response_id=told, **ask("go on"))
        assert seen(engine) == [user("hi"), assistant("t0 "), user("go on")]

    async def test_ends_with_its_time(self, serve: Any, engine: ScriptedServer, sdk: Sdk, clock: HandClock) -> None:
        store = ResponsesInMemory(clock=clock)
        client = sdk(serve(engine, settings=configured(ttl_seconds=60), responses=store))
        told = await client.responses.create(**ask())
        # The service's own clock is real: it says when that is.
        clock.advance(RealClock().time() - clock.time() + 50)
        assert (await client.responses.retrieve(told.id)).id == told.id
        clock.advance(11)
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(told.id)


class TestChains:
    async def test_a_response_goes_on_from_the_previous_one_without_its_instructions(
        self, client: openai.AsyncOpenAI, engine: ScriptedServer
    ) -> None:
        first = await client.responses.create(instructions="old", **ask("one", says="eins"))
        second = await client.responses.create(previous_response_id=first.id, **ask("two", says="zwei"))
        assert second.previous_response_id == first.id
        third = await client.responses.create(
            previous_response_id=second.id, instructions="new", stream=True, **ask("three", says="drei")
        )
        [event async for event in third]
        assert seen(engine) == [
            {"role": "system", "content": "new"}, user("one"), assistant("eins"), user("two"), assistant("zwei"),
            user("three"),
        ]  # fmt: skip

    async def test_two_may_follow_one_and_outlive_it(self, client: openai.AsyncOpenAI, engine: ScriptedServer) -> None:
        root = await client.responses.create(**ask("root", says="r"))
        left = await client.responses.create(previous_response_id=root.id, **ask("left", says="l"))
        right = await client.responses.create(previous_response_id=root.id, **ask("right", says="r"))
        await client.responses.delete(root.id)
        await client.responses.create(previous_response_id=left.id, **ask("on"))
        assert seen(engine) == [user("root"), assistant("r"), user("left"), assistant("l"), user("on")]
        await client.responses.create(previous_response_id=right.id, **ask("on"))
        assert seen(engine) == [user("root"), assistant("r"), user("right"), assistant("r"), user("on")]
        with pytest.raises(openai.BadRequestError) as caught:
            await client.responses.create(previous_response_id=root.id, **ask())
        assert caught.value.code == "previous_response_not_found"

    async def test_a_call_is_answered_in_the_next_response(
        self, client: openai.AsyncOpenAI, engine: ScriptedServer
    ) -> None:
        first = await client.responses.create(
            tools=[WEATHER], **ask("Oslo?", script={"text": "", "tool_calls": [OSLO]})
        )
        call = next(item for item in first.output if item.type == "function_call")
        result: Any = [{"type": "function_call_output", "call_id": call.call_id, "output": "rain"}]
        second = await client.responses.create(
            previous_response_id=first.id, tools=[WEATHER], **ask(says="It rains.") | {"input": result}
        )
        assert second.output_text == "It rains."
        called = {"id": call.call_id, "type": "function", "function": OSLO}
        messages = seen(engine)
        assert [message["role"] for message in messages] == ["user", "assistant", "tool"]
        assert messages[1]["tool_calls"] == [called]
        assert messages[2] == {"role": "tool", "tool_call_id": call.call_id, "content": "rain"}

    async def test_a_call_that_was_broken_off_is_not_gone_on_from(
        self, serve: Any, hand_engine: HandEngine, sdk: Sdk
    ) -> None:
        """Its arguments are no JSON, at which chat templates fail."""
        client = sdk(serve(hand_engine.url))
        asking = asyncio.create_task(client.responses.create(tools=[WEATHER], **ask("Oslo?")))
        talk = await hand_engine.next()
        await talk.begin()
        function = {"name": "weather", "arguments": '{"ci'}
        call = {"index": 0, "id": "c", "type": "function", "function": function}
        await talk.event({"choices": [{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": None}]})
        await talk.token("", finish="length")
        await talk.end()
        first = await asking
        assert (first.status, [item.type for item in first.output]) == ("incomplete", ["function_call"])
        asking = asyncio.create_task(client.responses.create(previous_response_id=first.id, **ask("and?")))
        talk = await hand_engine.next()
        assert talk.json["messages"] == [user("Oslo?"), user("and?")]
        await talk.answer(400, TOO_LONG)
        with pytest.raises(openai.BadRequestError):
            await asking

    async def test_nothing_is_said_twice(self, client: openai.AsyncOpenAI) -> None:
        """Who goes on from a response and repeats its items would else have them doubled."""
        first = await client.responses.create(**ask("one"))
        again: Any = [*(item.to_dict() for item in first.output), user("two")]
        with pytest.raises(openai.BadRequestError, match="Duplicate item found") as caught:
            await client.responses.create(previous_response_id=first.id, **ask() | {"input": again})
        assert (caught.value.param, caught.value.code) == ("input[0].id", "duplicate_item")
        await client.responses.create(**ask() | {"input": again})

    async def test_what_came_before_is_not_measured_as_a_prompt_and_what_is_new_is(
        self, serve: Any, engine: ScriptedServer, sdk: Sdk
    ) -> None:
        settings = configured()
        limits = settings.limits.model_copy(update={"max_prompt_length": 10})
        client = sdk(serve(engine, settings=settings.model_copy(update={"limits": limits})))
        first = await client.responses.create(**ask("12345678", says="a long answer, longer than any prompt"))
        second = await client.responses.create(previous_response_id=first.id, **ask("12345678"))
        for more in ({"instructions": "123"}, {"input": "12345678901"}):
            request = ask("12345678") | more
            with pytest.raises(openai.BadRequestError) as caught:
                await client.responses.create(previous_response_id=second.id, **request)
            assert caught.value.code == "string_above_max_length"

    async def test_the_next_one_meets_the_same_engine(self, client: openai.AsyncOpenAI, engine: ScriptedServer) -> None:
        first = await client.responses.create(**ask())
        second = await client.responses.create(previous_response_id=first.id, **ask())
        await client.responses.create(previous_response_id=second.id, **ask())
        first_met, *met = [request["session"] for request in engine.state()["requests"]]
        assert met == [first_met, first_met]

    async def test_tokens_are_counted_with_what_came_before(self, client: openai.AsyncOpenAI) -> None:
        first = await client.responses.create(**ask("one two", says="three"))
        alone = await client.responses.input_tokens.count(model=MODEL, input="four")
        whole = await client.responses.input_tokens.count(model=MODEL, input="four", previous_response_id=first.id)
        assert whole.input_tokens == alone.input_tokens + 3

    async def test_what_is_larger_than_a_request_is_refused(self, serve: Any, engine: ScriptedServer, sdk: Sdk) -> None:
        client = sdk(serve(engine, web={"max_body_bytes": 2048}))
        first = await client.responses.create(**ask("x" * 1000))
        second = await client.responses.create(previous_response_id=first.id, **ask("short"))
        with pytest.raises(openai.BadRequestError) as caught:
            await client.responses.create(previous_response_id=second.id, **ask("x" * 1000))
        assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "previous_response_id")


class TestInputItems:
    async def test_are_all_that_was_answered_a_page_at_a_time(self, client: openai.AsyncOpenAI) -> None:
        first = await client.responses.create(**ask("one", says="eins"))
        second = await client.responses.create(previous_response_id=first.id, **ask("two"))
        list_of = client.responses.input_items.list
        whole = await list_of(second.id, order="asc")
        assert [item.content[0].text for item in whole.data] == ["one", "eins", "two"]
        assert [item.role for item in whole.data] == ["user", "assistant", "user"]
        assert not whole.has_more
        page = await list_of(second.id, limit=2)
        assert [item.content[0].text for item in page.data] == ["two", "eins"]
        assert (page.has_more, page.first_id, page.last_id) == (True, page.data[0].id, page.data[1].id)
        rest = await list_of(second.id, limit=2, after=page.last_id)
        assert [item.content[0].text for item in rest.data] == ["one"]
        assert [item.id async for item in list_of(second.id, limit=1, order="asc")] == [one.id for one in whole.data]

    async def test_are_the_sdks_types_to_the_letter(self, client: openai.AsyncOpenAI, served: Served) -> None:
        given: Any = [
            user("hi"), {"role": "developer", "content": [{"type": "input_text", "text": "be brief"}]},
            assistant("yes"), {"type": "reasoning", "id": "rs_1", "summary": []},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "1"},
            user("hi") | {"id": {"no": "id"}, "status": "odd"}, user("hi") | {"id": "rs_1"}, user("hi") | {"id": "a/b"},
        ]  # fmt: skip
        told = await client.responses.create(**ask() | {"input": given})
        url = f"{served.url}/v1/responses/{told.id}/input_items?order=asc"
        async with aiohttp.ClientSession() as http, http.get(url) as response:
            page = await response.json()
        items = TypeAdapter(list[ResponseItem]).validate_python(page["data"])
        assert [item.type for item in items] == [
            "message", "message", "message", "reasoning", "function_call", "function_call_output",
            "message", "message", "message",
        ]  # fmt: skip
        assert items[3].id == "rs_1"
        assert len({item.id for item in items}) == 9

    @pytest.mark.parametrize("query", ["limit=0", "limit=101", "order=up"])
    async def test_of_no_such_page_are_refused(self, client: openai.AsyncOpenAI, served: Served, query: str) -> None:
        told = await client.responses.create(**ask())
        url = f"{served.url}/v1/responses/{told.id}/input_items?{query}"
        async with aiohttp.ClientSession() as http, http.get(url) as response:
            assert response.status == 400
            assert (await response.json())["error"]["param"] == query.partition("=")[0]


async def test_nobody_sees_what_is_stored_for_another(serve: Any, engine: ScriptedServer, sdk: Sdk) -> None:
    served = serve(engine, settings=configured(keys=True))
    ann, bob = (sdk(served, api_key=KEYS[name]) for name in ("ann", "bob"))
    told = await ann.responses.create(**ask())
    for asking in (
        bob.responses.retrieve(told.id), bob.responses.delete(told.id), bob.responses.input_items.list(told.id),
        bob.responses.cancel(told.id),
    ):  # fmt: skip
        with pytest.raises(openai.NotFoundError):
            await asking
    with pytest.raises(openai.BadRequestError) as caught:
        await bob.responses.create(previous_response_id=told.id, **ask())
    assert caught.value.code == "previous_response_not_found"
    assert (await ann.responses.retrieve(told.id)).id == told.id
