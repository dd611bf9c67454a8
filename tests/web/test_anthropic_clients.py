"""Anthropic's own SDK against the service: what its users do, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

import anthropic
import pytest
from anthropic.types import TextBlock, ThinkingBlock, ToolUseBlock

from infra.settings import Guards
from tests.web.conftest import MODEL, settings_with, until
from tests.web.doubles import HandClock
from web.dialects.anthropic_answer import signature_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from anthropic.types import MessageParam, ToolParam

    from functions.engines.scripted_server import ScriptedServer
    from tests.web.conftest import Json, Served
    from tests.web.doubles import HandEngine

pytestmark = pytest.mark.slow

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
            plain = anthropic.DefaultAsyncHttpxClient(verify=False)  # certificates take 50 ms to load
            client = anthropic.AsyncAnthropic(base_url=served.url, api_key="none", max_retries=0, http_client=plain)
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
        ThinkingBlock(type="thinking", thinking="so so", signature=signature_of("so so")),
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


async def test_no_edit_of_the_context_is_applied_and_the_answer_says_so(served: Served, sdk: Sdk) -> None:
    request: Any = {
        "model": MODEL, "max_tokens": 5, "messages": HELLO, "betas": ["context-management-2025-06-27"],
        "context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]},
    }  # fmt: skip
    plain = await sdk(served).beta.messages.create(**request)
    async with sdk(served).beta.messages.stream(**request) as stream:
        streamed = await stream.get_final_message()
    for message in (plain, streamed):
        assert message.context_management is not None
        assert message.context_management.applied_edits == []


async def test_tokens_are_counted_by_the_engine(served: Served, sdk: Sdk) -> None:
    count = await sdk(served).messages.count_tokens(model=MODEL, system="be brief", messages=HELLO)
    assert count.input_tokens == 4


async def test_the_models_are_anthropics_too(served: Served, sdk: Sdk) -> None:
    (model,) = [model async for model in sdk(served).models.list()]
    assert (model.type, model.id, model.display_name) == ("model", "scripted", MODEL)
    assert (await sdk(served).models.retrieve("scripted")).created_at.year == 1970


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

    async def test_what_a_guard_ends_is_a_refusal_streamed_or_not(
        self, serve: Any, engine: ScriptedServer, sdk: Sdk
    ) -> None:
        guards = Guards(blocked_answers=("t3",), held_back_characters=4)
        served = serve(engine, settings=settings_with().model_copy(update={"guards": guards}))
        request: Any = {"model": MODEL, "max_tokens": 50, "messages": HELLO}
        plain = await sdk(served).messages.create(**request)
        async with sdk(served).messages.stream(**request) as stream:
            streamed = await stream.get_final_message()
        for message in (plain, streamed):
            assert message.stop_reason == "refusal"
            assert [block.text for block in message.content] == ["t0 t1 t2 "]

    async def test_a_filter_is_a_refusal(self, serve: Any, sdk: Sdk, hand_engine: HandEngine) -> None:
        served = serve(hand_engine.url)
        asking = asyncio.create_task(sdk(served).messages.create(model=MODEL, max_tokens=9, messages=HELLO))
        talk = await hand_engine.next()
        await talk.begin()
        await talk.token("", finish="content_filter")
        await talk.end()
        message = await asking
        assert (message.stop_reason, message.content) == ("refusal", [])


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
