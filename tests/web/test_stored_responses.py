"""Stored responses as users of OpenAI's SDK see them, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import aiohttp
import openai
import pytest
from openai.types.responses import ResponseItem
from pydantic import TypeAdapter

from tests.web.conftest import MODEL, target_of, until
from tests.web.doubles import HandClock
from tests.web.response_kit import KEYS, OSLO, WEATHER, ask, assistant, configured, seen, user
from web.clock import RealClock
from web.stored import StoredResponse
from web.stored_errors import ResponsesUnavailable
from web.stored_memory import ResponsesInMemory

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from functions.engines.scripted_server import ScriptedServer
    from tests.web.conftest import Served
    from tests.web.doubles import HandEngine

Sdk = Any


@pytest.fixture
async def sdk() -> AsyncIterator[Sdk]:
    """`sdk(served)` -> a client, closed at the end."""
    async with contextlib.AsyncExitStack() as stack:

        def make(served: Served, **options: Any) -> openai.AsyncOpenAI:
            client = served.sdk(**options)
            stack.push_async_callback(client.close)
            return client

        yield make


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


async def eventually(client: openai.AsyncOpenAI, response_id: str) -> Any:
    """A response that is being stored while its caller, who has left, knows nothing of it."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await client.responses.retrieve(response_id)
            except openai.NotFoundError:
                await asyncio.sleep(0.01)


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


TOO_LONG = b'{"error": {"message": "the request exceeds the available context size, try increasing it", "code": 400}}'


class TestTooLong:
    """`truncation`, with an engine that takes so many messages and no more."""

    @staticmethod
    async def take(hand_engine: HandEngine, most: int) -> list[int]:
        """Answer what is short enough; how many messages each try had."""
        tried = []
        while True:
            talk = await hand_engine.next()
            tried.append(len(talk.json["messages"]))
            if tried[-1] <= most:
                await talk.begin()
                await talk.token("ok")
                await talk.token("", finish="stop")
                await talk.end()
                return tried
            await talk.answer(400, TOO_LONG)

    @pytest.mark.parametrize("stream", [False, True])
    async def test_auto_leaves_out_the_oldest(
        self, serve: Any, hand_engine: HandEngine, sdk: Sdk, stream: bool
    ) -> None:
        client = sdk(serve(target_of(hand_engine.url, kind="llamacpp"), web={"heartbeat_interval": 0.05}))
        items: Any = [item for n in range(4) for item in (user(f"q{n}"), assistant(f"a{n}"))]
        request = {"model": MODEL, "input": [*items, user("last")], "truncation": "auto", "stream": stream}
        async with asyncio.TaskGroup() as tasks:
            taken = tasks.create_task(self.take(hand_engine, 3))
            told = await client.responses.create(**request)
            if stream:
                *_, last = [event async for event in told]
                told = last.response
        assert taken.result() == [9, 3]
        assert (told.status, told.truncation) == ("completed", "auto")
        kept = [item async for item in client.responses.input_items.list(told.id, limit=100)]
        assert len(kept) == 9, "nothing that was said is forgotten"

    async def test_auto_leaves_out_the_oldest_also_when_the_stream_has_begun_with_signs_of_life(
        self, serve: Any, hand_engine: HandEngine
    ) -> None:
        served = serve(hand_engine.url, web={"heartbeat_interval": 0.02})
        body = {"model": MODEL, "input": [user("a"), assistant("b"), user("c")], "stream": True, "truncation": "auto"}
        raw = await served.raw(body, "/v1/responses")
        talk = await hand_engine.next()
        await raw.until(b": ")
        await talk.answer(400, TOO_LONG)
        talk = await hand_engine.next()
        assert talk.json["messages"] == [user("c")]
        await talk.begin()
        await talk.token("ok", finish="stop")
        await talk.end()
        told = (await raw.rest()).decode()
        assert told.count("HTTP/1.1 200") == 1
        assert told.count("event: response.created") == told.count("event: response.completed") == 1
        assert "response.failed" not in told

    async def test_disabled_refuses(self, serve: Any, hand_engine: HandEngine, sdk: Sdk) -> None:
        client = sdk(serve(hand_engine.url))
        asking = asyncio.create_task(client.responses.create(model=MODEL, input=[user("a"), user("b")]))
        talk = await hand_engine.next()
        await talk.answer(400, TOO_LONG)
        with pytest.raises(openai.BadRequestError):
            await asking


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
        ]  # fmt: skip
        told = await client.responses.create(**ask() | {"input": given})
        url = f"{served.url}/v1/responses/{told.id}/input_items?order=asc"
        async with aiohttp.ClientSession() as http, http.get(url) as response:
            page = await response.json()
        items = TypeAdapter(list[ResponseItem]).validate_python(page["data"])
        assert [item.type for item in items] == [
            "message", "message", "message", "reasoning", "function_call", "function_call_output",
        ]  # fmt: skip
        assert items[3].id == "rs_1"
        assert len({item.id for item in items}) == 6

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


SLOW = {"model": MODEL, "input": "hi", "x_scripted": {"gap": 0.01}}
"""So slow that its pieces come one by one."""


class Faulty(ResponsesInMemory):
    """`held`: what is kept waits. `broken`: it fails; `down`: everything does."""

    def __init__(self) -> None:
        super().__init__(clock=RealClock())
        self.held = self.broken = self.down = False
        self.keeping = 0

    async def check(self) -> None:
        if self.down:
            raise ResponsesUnavailable

    async def keep(self, response: StoredResponse) -> None:
        self.keeping += 1
        await until(lambda: not self.held, seconds=30)
        if self.broken or self.down:
            raise ResponsesUnavailable
        await super().keep(response)


class TestFaults:
    @pytest.fixture
    def store(self) -> Faulty:
        return Faulty()

    async def test_the_end_is_told_when_it_is_kept(self, serve: Any, engine: ScriptedServer, store: Faulty) -> None:
        served = serve(engine, responses=store)
        store.held = True
        stream = await served.raw(SLOW | {"stream": True}, "/v1/responses")
        plain = await served.raw({"model": MODEL, "input": "hi"}, "/v1/responses")
        await stream.until(b"response.output_text.delta")
        await until(lambda: store.keeping == 2, seconds=20)
        assert b"response.completed" not in stream.received + await stream.ready()
        assert await plain.ready() == b""
        store.held = False
        await stream.until(b"response.completed")
        assert (await plain.head())[0] == 200

    async def test_what_cannot_be_kept_is_not_told_as_completed(
        self, serve: Any, engine: ScriptedServer, store: Faulty, sdk: Sdk
    ) -> None:
        client = sdk(serve(engine, responses=store))
        store.broken = True
        *_, last = [event async for event in await client.responses.create(stream=True, **ask(script={"gap": 0.01}))]
        assert (last.type, last.response.status) == ("response.failed", "failed")
        assert last.response.output_text.startswith("t0 ")
        assert last.response.error.type == "responses_unavailable"
        with pytest.raises(openai.InternalServerError) as caught:
            await client.responses.create(**ask())
        assert (caught.value.status_code, caught.value.code) == (503, "responses_unavailable")

    async def test_where_nothing_can_be_kept_no_engine_is_asked_but_for_what_is_not_to_be(
        self, serve: Any, engine: ScriptedServer, store: Faulty, sdk: Sdk
    ) -> None:
        client = sdk(serve(engine, responses=store))
        store.down = True
        for stream in (False, True):
            with pytest.raises(openai.InternalServerError) as caught:
                await client.responses.create(stream=stream, **ask())
            assert (caught.value.status_code, caught.value.code) == (503, "responses_unavailable")
        assert not engine.state()["requests"]
        assert (await client.responses.create(store=False, **ask())).status == "completed"

    async def test_who_leaves_while_it_is_kept_leaves_it_kept(
        self, serve: Any, engine: ScriptedServer, store: Faulty, sdk: Sdk
    ) -> None:
        served = serve(engine, responses=store)
        store.held = True
        raw = await served.raw(SLOW | {"stream": True}, "/v1/responses")
        told = await raw.until(b"response.output_text.delta")
        await until(lambda: store.keeping == 1, seconds=20)
        raw.leave()
        store.held = False
        response_id = told.partition(b'"id":"')[2].partition(b'"')[0].decode()
        assert (await eventually(sdk(served), response_id)).status == "completed"
