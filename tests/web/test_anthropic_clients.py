"""Anthropic's own SDK against the service: what its users do, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

import anthropic
import pytest
from anthropic.types import TextBlock, ThinkingBlock, ToolUseBlock

from tests.web.conftest import MODEL, until
from tests.web.doubles import HandClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiohttp
    from anthropic.types import MessageParam, ToolParam

    from functions.engines.scripted_server import ScriptedServer
    from tests.web.conftest import Json, Served
    from tests.web.doubles import HandEngine

HELLO: list[MessageParam] = [{"role": "user", "content": "hello there"}]
WEATHER: ToolParam = {
    "name": "weather", "description": "The weather somewhere",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}  # fmt: skip


Sdk = Any


@pytest.fixture
async def sdk() -> AsyncIterator[Sdk]:
    """`sdk(served)` -> a client, closed at the end."""
    async with contextlib.AsyncExitStack() as stack:

        def make(served: Served) -> anthropic.AsyncAnthropic:
            client = anthropic.AsyncAnthropic(base_url=served.url, api_key="none", max_retries=0)
            stack.push_async_callback(client.close)
            return client

        yield make


def scripted(**script: Any) -> Json:
    return {"extra_body": {"x_scripted": script}}


def asked(engine: ScriptedServer) -> Json:
    """What the engine was told last."""
    body: Json = engine.state()["requests"][-1]["body"]
    return body


async def test_a_plain_message_is_whole(served: Served, sdk: Sdk) -> None:
    message = await sdk(served).messages.create(
        model=MODEL, max_tokens=50, messages=HELLO,
        **scripted(tokens=3, reasoning="so so", prompt_tokens=7, cached_tokens=5),
    )  # fmt: skip
    assert message.id.startswith("msg_")
    assert (message.type, message.role, message.model) == ("message", "assistant", MODEL)
    assert message.content == [
        ThinkingBlock(type="thinking", thinking="so so", signature=""),
        TextBlock(type="text", text="t0 t1 t2 "),
    ]
    assert (message.stop_reason, message.stop_sequence) == ("end_turn", None)
    usage = message.usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (2, 5, 0)
    assert usage.output_tokens == 5


async def test_the_synchronous_client_works_too(served: Served) -> None:
    def ask() -> tuple[str, str]:
        client = anthropic.Anthropic(base_url=served.url, api_key="none", max_retries=0)
        message = client.messages.create(model=MODEL, max_tokens=5, messages=HELLO, **scripted(text="hi"))
        with client.messages.stream(model=MODEL, max_tokens=5, messages=HELLO, **scripted(text="hi you")) as stream:
            said = "".join(stream.text_stream)
        (block,) = message.content
        assert isinstance(block, TextBlock)
        return block.text, said

    assert await asyncio.to_thread(ask) == ("hi", "hi you")


async def test_the_sdks_accumulator_adds_a_stream_up_to_what_a_plain_answer_is(served: Served, sdk: Sdk) -> None:
    calls = [{"name": "weather", "arguments": '{"city": "Oslo"}'}, {"name": "weather", "arguments": '{"city": "Rome"}'}]
    request: Any = {
        "model": MODEL, "max_tokens": 50, "messages": HELLO, "tools": [WEATHER],
        **scripted(text="let me look", reasoning="where is it", tool_calls=calls, prompt_tokens=9, cached_tokens=4),
    }  # fmt: skip
    async with sdk(served).messages.stream(**request) as stream:
        seen = [event.type async for event in stream]
        streamed = await stream.get_final_message()
    plain = await sdk(served).messages.create(**request)
    assert json.loads(streamed.to_json())["content"] == [
        block | {"id": streamed.content[index].id}  # type: ignore[union-attr]
        if block["type"] == "tool_use" else block
        for index, block in enumerate(json.loads(plain.to_json())["content"])
    ]  # fmt: skip
    assert [block.type for block in streamed.content] == ["thinking", "text", "tool_use", "tool_use"]
    assert [block.input for block in streamed.content if isinstance(block, ToolUseBlock)] == [
        {"city": "Oslo"}, {"city": "Rome"},
    ]  # fmt: skip
    assert (streamed.stop_reason, plain.stop_reason) == ("tool_use", "tool_use")
    assert streamed.usage == plain.usage
    assert streamed.usage.input_tokens == 5
    assert seen.count("thinking") == 3
    assert seen.count("text") == 3
    assert seen.count("input_json") == 4


async def test_a_tool_is_called_and_its_result_understood(served: Served, sdk: Sdk, engine: ScriptedServer) -> None:
    """An agent's loop: ask, run the tool, ask again with all that was said."""
    client = sdk(served)
    messages: list[MessageParam] = [{"role": "user", "content": "Weather in Oslo?"}]
    calls = [{"name": "weather", "arguments": '{"city": "Oslo"}'}]
    first = await client.messages.create(
        model=MODEL, max_tokens=50, messages=messages, tools=[WEATHER],
        **scripted(text="I look.", reasoning="hm", tool_calls=calls),
    )  # fmt: skip
    assert first.stop_reason == "tool_use"
    use = first.content[-1]
    assert isinstance(use, ToolUseBlock)
    messages += [
        {"role": "assistant", "content": first.content},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": use.id, "content": "rain"}]},
    ]
    second = await client.messages.create(
        model=MODEL, max_tokens=50, messages=messages, tools=[WEATHER], **scripted(text="It rains.")
    )
    assert second.stop_reason == "end_turn"
    heard = asked(engine)
    arguments = heard["messages"][1]["tool_calls"][0]["function"].pop("arguments")
    assert json.loads(arguments) == {"city": "Oslo"}
    assert heard["messages"] == [
        {"role": "user", "content": "Weather in Oslo?"},
        {
            "role": "assistant", "content": "I look.", "reasoning_content": "hm",
            "tool_calls": [{"id": use.id, "type": "function", "function": {"name": "weather"}}],
        },
        {"role": "tool", "tool_call_id": use.id, "content": "rain"},
    ]  # fmt: skip
    function = {
        "name": "weather", "description": "The weather somewhere", "parameters": WEATHER["input_schema"],
    }  # fmt: skip
    assert heard["tools"] == [{"type": "function", "function": function}]


async def test_the_sdks_tool_runner_runs_its_loop(served: Served, sdk: Sdk, engine: ScriptedServer) -> None:
    ran: list[str] = []

    @anthropic.beta_async_tool
    async def weather(city: str) -> str:
        """The weather somewhere.

        Args:
            city: Where
        """
        ran.append(city)
        engine.options.script.tool_calls.clear()
        return "rain"

    engine.options.script.tool_calls.append({"name": "weather", "arguments": '{"city": "Oslo"}'})
    runner = sdk(served).beta.messages.tool_runner(model=MODEL, max_tokens=50, tools=[weather], messages=HELLO)
    final = await runner.until_done()
    assert ran == ["Oslo"]
    assert final.stop_reason == "end_turn"
    assert asked(engine)["messages"][-1]["content"] == "rain"


async def test_structured_outputs_are_asked_of_the_engine_and_parsed_by_the_sdk(
    served: Served, sdk: Sdk, engine: ScriptedServer
) -> None:
    from pydantic import BaseModel

    class City(BaseModel):
        name: str

    message = await sdk(served).messages.parse(
        model=MODEL, max_tokens=50, messages=HELLO, output_format=City, **scripted(text='{"name": "Oslo"}')
    )
    assert message.parsed_output == City(name="Oslo")
    asked_for = asked(engine)["response_format"]
    assert asked_for["type"] == "json_schema"
    assert asked_for["json_schema"]["schema"]["properties"]["name"]["type"] == "string"


async def test_tokens_are_counted_by_the_engine(served: Served, sdk: Sdk) -> None:
    count = await sdk(served).messages.count_tokens(model=MODEL, system="be brief", messages=HELLO)
    assert count.input_tokens == 4


class TestStops:
    async def test_the_limit(self, served: Served, sdk: Sdk) -> None:
        message = await sdk(served).messages.create(model=MODEL, max_tokens=2, messages=HELLO)
        assert (message.stop_reason, message.usage.output_tokens) == ("max_tokens", 2)

    @pytest.mark.parametrize(
        ("matched", "reason", "sequence"),
        [("END", "stop_sequence", "END"), (151645, "end_turn", None), (None, "end_turn", None)],
    )
    async def test_a_stop_sequence_is_told_where_the_engine_tells_it(
        self, serve: Any, sdk: Sdk, hand_engine: HandEngine, matched: Any, reason: str, sequence: str | None
    ) -> None:
        served = serve(hand_engine.url)
        asking = asyncio.create_task(
            sdk(served).messages.create(model=MODEL, max_tokens=9, messages=HELLO, stop_sequences=["END"])
        )
        talk = await hand_engine.next()
        assert talk.json["stop"] == ["END"]
        await talk.begin()
        await talk.token("so")
        await talk.event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "matched_stop": matched}]})
        await talk.end()
        message = await asking
        assert (message.stop_reason, message.stop_sequence) == (reason, sequence)

    async def test_a_filter_is_a_refusal(self, serve: Any, sdk: Sdk, hand_engine: HandEngine) -> None:
        served = serve(hand_engine.url)
        asking = asyncio.create_task(sdk(served).messages.create(model=MODEL, max_tokens=9, messages=HELLO))
        talk = await hand_engine.next()
        await talk.begin()
        await talk.token("", finish="content_filter")
        await talk.end()
        message = await asking
        assert (message.stop_reason, message.content) == ("refusal", [])


class TestErrors:
    @pytest.mark.parametrize(
        ("body", "raised", "kind", "code", "told"),
        [
            ({"max_tokens": 0}, anthropic.BadRequestError, "invalid_request_error", "invalid_value", "max_tokens"),
            ({"model": "no/such"}, anthropic.NotFoundError, "not_found_error", "model_not_found", "no/such"),
            (
                {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
                anthropic.BadRequestError, "invalid_request_error", "invalid_value", "web_search_20250305",
            ),
        ],
    )  # fmt: skip
    async def test_a_refusal_is_the_sdks_own_exception(
        self,
        served: Served,
        sdk: Sdk,
        body: Any,
        raised: type[anthropic.APIStatusError],
        kind: str,
        code: str,
        told: str,
    ) -> None:
        sound: Any = {"model": MODEL, "max_tokens": 5, "messages": HELLO}
        with pytest.raises(raised) as caught:
            await sdk(served).messages.create(**(sound | body))
        error = caught.value
        assert error.type == kind
        assert told in (error.api_message or "")
        assert error.request_id is not None
        assert error.error_code == code
        assert error.body == {
            "type": "error",
            "error": {"type": kind, "message": error.api_message, "details": {"error_code": code}},
            "request_id": error.request_id,
        }

    @pytest.mark.parametrize(
        ("method", "path", "status", "kind"),
        [
            ("GET", "/v1/messages", 405, "invalid_request_error"),
            ("POST", "/v1/messages/nothing", 404, "not_found_error"),
            ("DELETE", "/v1/messages/count_tokens", 405, "invalid_request_error"),
        ],
    )
    async def test_routing_errors_are_anthropics_too(
        self, served: Served, http: aiohttp.ClientSession, method: str, path: str, status: int, kind: str
    ) -> None:
        async with http.request(method, served.url + path, json={}) as response:
            body = await response.json()
            assert (response.status, body["type"], body["error"]["type"]) == (status, "error", kind)
            assert body["request_id"] == response.headers["request-id"] == response.headers["x-request-id"]

    async def test_what_only_begins_like_the_path_is_answered_in_openais_words(
        self, served: Served, http: aiohttp.ClientSession
    ) -> None:
        async with http.get(served.url + "/v1/messagesque") as response:
            assert set(await response.json()) == {"error"}
            assert "request-id" not in response.headers

    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff"])
    async def test_a_body_that_is_no_json_object(
        self, served: Served, http: aiohttp.ClientSession, body: bytes
    ) -> None:
        for path in ("/v1/messages", "/v1/messages/count_tokens"):
            async with http.post(served.url + path, data=body) as response:
                told = await response.json()
                assert (response.status, told["error"]["type"]) == (400, "invalid_request_error")

    async def test_a_body_that_is_too_large(self, serve: Any, sdk: Sdk, engine: ScriptedServer) -> None:
        served = serve(engine, web={"max_body_bytes": 1024})
        with pytest.raises(anthropic.RequestTooLargeError) as caught:
            await sdk(served).messages.create(
                model=MODEL, max_tokens=5, messages=[{"role": "user", "content": "x" * 2000}]
            )
        assert caught.value.type == "request_too_large"

    async def test_an_engine_that_refuses_fails_and_is_full(self, served: Served, sdk: Sdk) -> None:
        for status, raised, kind in (
            (400, anthropic.BadRequestError, "invalid_request_error"),
            (500, anthropic.InternalServerError, "api_error"),
            (503, anthropic.InternalServerError, "overloaded_error"),
        ):
            for stream in (False, True):
                with pytest.raises(raised) as caught:
                    await sdk(served).messages.create(
                        model=MODEL, max_tokens=5, messages=HELLO, stream=stream,
                        **scripted(error_after=0, error_status=status),
                    )  # fmt: skip
                assert caught.value.type == kind

    @pytest.mark.parametrize("fault", ["error_after", "cut_after", "crash_after"])
    async def test_a_stream_that_fails_is_raised_by_the_sdk(self, served: Served, sdk: Sdk, fault: str) -> None:
        said = []
        with pytest.raises(anthropic.APIStatusError) as caught:
            async with sdk(served).messages.stream(
                model=MODEL, max_tokens=50, messages=HELLO, **scripted(**{fault: 2})
            ) as stream:
                async for text in stream.text_stream:
                    said.append(text)
        assert said == ["t0 ", "t1 "]
        assert caught.value.type == "api_error"
        assert caught.value.request_id

    async def test_a_tool_called_with_nonsense_is_no_input(self, served: Served, sdk: Sdk) -> None:
        request: Any = {"model": MODEL, "max_tokens": 50, "messages": HELLO, "tools": [WEATHER]}
        for arguments in ('{"city": "Os', "[1]"):
            with pytest.raises(anthropic.InternalServerError) as caught:
                await sdk(served).messages.create(
                    **request, **scripted(text="", tool_calls=[{"name": "weather", "arguments": arguments}])
                )
            assert caught.value.status_code == 502


async def test_a_cold_start_is_comments_that_the_sdk_does_not_see(
    serve: Any, sdk: Sdk, hand_engine: HandEngine
) -> None:
    """Before the engine answers nobody knows what `message_start` has to say: comments come first."""
    clock = HandClock()
    served = serve(hand_engine.url, clock=clock)

    async def read() -> list[str]:
        async with sdk(served).messages.stream(model=MODEL, max_tokens=9, messages=HELLO) as stream:
            return [event.type async for event in stream]

    reading = asyncio.create_task(read())
    talk = await hand_engine.next()
    for _ in range(3):
        await until(clock.pending)
        clock.advance(5)
        await asyncio.sleep(0)
    await talk.begin()
    await talk.token("so")
    await talk.token("", finish="stop")
    await talk.end()
    assert await reading == [
        "message_start", "content_block_start", "content_block_delta", "text", "content_block_stop", "message_delta",
        "message_stop",
    ]  # fmt: skip
