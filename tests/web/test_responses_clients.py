"""OpenAI's own SDK against the Responses API: what its users do, over real sockets."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import openai
import pytest
from openai.types.responses import (
    Response,
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
    ResponseReasoningItem,
)
from pydantic import BaseModel, TypeAdapter

from infra.settings import Guards
from tests.web.conftest import MODEL, settings_with

if TYPE_CHECKING:
    import aiohttp
    from openai.types.responses import FunctionToolParam, ResponseInputItemParam

    from functions.engines.scripted_server import ScriptedServer
    from tests.web.conftest import Json, Served
    from tests.web.doubles import HandEngine

WEATHER: FunctionToolParam = {
    "type": "function", "name": "weather", "description": "The weather somewhere", "strict": None,
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}  # fmt: skip
OSLO = {"name": "weather", "arguments": '{"city": "Oslo"}'}

Sdk = Any


def scripted(**script: Any) -> Json:
    return {"extra_body": {"x_scripted": script}}


def asked(engine: ScriptedServer) -> Json:
    """What the engine was told last."""
    body: Json = engine.state()["requests"][-1]["body"]
    return body


async def test_a_response_is_whole(served: Served, sdk: Sdk) -> None:
    response = await sdk(served).responses.create(
        model=MODEL, input="one two", instructions="be brief", temperature=0.5, metadata={"a": "b"},
        **scripted(tokens=3, reasoning="so so", prompt_tokens=7, cached_tokens=5),
    )  # fmt: skip
    assert response.id.startswith("resp_")
    assert (response.object, response.status, response.model) == ("response", "completed", MODEL)
    assert response.output_text == "t0 t1 t2 "
    thought, message = response.output
    assert isinstance(thought, ResponseReasoningItem)
    assert thought.id.startswith("rs_")
    assert [part.text for part in thought.content or []] == ["so so"]
    assert isinstance(message, ResponseOutputMessage)
    assert message.id.startswith("msg_")
    assert (message.role, message.status) == ("assistant", "completed")
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.output_tokens, response.usage.total_tokens) == (7, 5, 12)
    assert response.usage.input_tokens_details.cached_tokens == 5
    assert response.usage.output_tokens_details.reasoning_tokens == 0
    assert (response.instructions, response.temperature, response.metadata) == ("be brief", 0.5, {"a": "b"})
    assert response.model_extra == {"store": True}
    assert response.completed_at is not None
    assert response.completed_at >= response.created_at


async def test_what_is_answered_is_the_sdks_type_to_the_letter(served: Served, http: aiohttp.ClientSession) -> None:
    """The SDK itself builds its objects without checking them."""
    script = {"text": "x", "reasoning": "hm", "tool_calls": [OSLO]}
    body = {"model": MODEL, "input": "x", "tools": [WEATHER], "x_scripted": script}
    async with http.post(served.url + "/v1/responses", json=body) as response:
        told = await response.json()
    TypeAdapter(Response).validate_python(told)


async def test_every_event_is_the_sdks_type_to_the_letter(served: Served, http: aiohttp.ClientSession) -> None:
    from openai.types.responses import ResponseStreamEvent

    adapter: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
    script = {"text": "x y", "reasoning": "hm", "tool_calls": [OSLO]}
    more: Json = {"tools": [WEATHER], "include": ["message.output_text.logprobs"], "top_logprobs": 2}
    body = {"model": MODEL, "input": "x", "stream": True, "x_scripted": script, **more}
    async with http.post(served.url + "/v1/responses", json=body) as response:
        text = await response.text()
    events = [event for event in text.split("\n\n") if event.startswith("event: ")]
    numbers = []
    for event in events:
        name, data = event.split("\n")
        told = json.loads(data.removeprefix("data: "))
        assert name == f"event: {told['type']}"
        built = adapter.validate_python(told)
        assert built.type == told["type"]
        numbers.append(told["sequence_number"])
    assert numbers == list(range(len(events)))
    assert "[DONE]" not in text


async def test_the_sdks_accumulator_adds_a_stream_up_to_what_a_plain_answer_is(served: Served, sdk: Sdk) -> None:
    request: Any = {
        "model": MODEL, "input": "hi", "tools": [WEATHER],
        **scripted(text="let me look", reasoning="where", tool_calls=[OSLO, OSLO], prompt_tokens=9, cached_tokens=4),
    }  # fmt: skip
    async with sdk(served).responses.stream(**request) as stream:
        deltas = [event.delta async for event in stream if event.type == "response.output_text.delta"]
        streamed = await stream.get_final_response()
    plain = await sdk(served).responses.create(**request)
    assert "".join(deltas) == streamed.output_text == plain.output_text == "let me look"
    shapes = [
        [(item.type, getattr(item, "status", None), getattr(item, "arguments", None)) for item in response.output]
        for response in (streamed, plain)
    ]
    assert shapes[0] == shapes[1]
    assert [kind for kind, _, _ in shapes[0]] == ["reasoning", "message", "function_call", "function_call"]
    assert streamed.usage == plain.usage


async def test_the_events_of_a_text_come_in_their_order(served: Served, sdk: Sdk) -> None:
    stream = await sdk(served).responses.create(model=MODEL, input="hi", stream=True, **scripted(tokens=2))
    assert [event.type async for event in stream] == [
        "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
        "response.output_text.delta", "response.output_text.delta", "response.output_text.done",
        "response.content_part.done", "response.output_item.done", "response.completed",
    ]  # fmt: skip


async def test_an_agents_loop(served: Served, engine: ScriptedServer, sdk: Sdk) -> None:
    """Ask, run the function, ask again with all that was said: nothing is stored."""
    client = sdk(served)
    items: list[ResponseInputItemParam] = [{"role": "user", "content": "Weather in Oslo?"}]
    first = await client.responses.create(
        model=MODEL, input=items, tools=[WEATHER], **scripted(text="I look.", reasoning="hm", tool_calls=[OSLO])
    )
    call = first.output[-1]
    assert isinstance(call, ResponseFunctionToolCall)
    items += [item.to_dict() for item in first.output]  # type: ignore[misc]
    items.append({"type": "function_call_output", "call_id": call.call_id, "output": "rain"})
    second = await client.responses.create(model=MODEL, input=items, tools=[WEATHER], **scripted(text="It rains."))
    assert second.output_text == "It rains."
    function = {"name": "weather", "arguments": '{"city": "Oslo"}'}
    assert asked(engine)["messages"] == [
        {"role": "user", "content": "Weather in Oslo?"},
        {
            "role": "assistant", "content": "I look.", "reasoning_content": "hm",
            "tool_calls": [{"id": call.call_id, "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": call.call_id, "content": "rain"},
    ]  # fmt: skip


async def test_structured_outputs_are_asked_of_the_engine_and_parsed_by_the_sdk(
    served: Served, engine: ScriptedServer, sdk: Sdk
) -> None:
    class City(BaseModel):
        name: str

    response = await sdk(served).responses.parse(
        model=MODEL, input="hi", text_format=City, **scripted(text='{"name": "Oslo"}')
    )
    assert response.output_parsed == City(name="Oslo")
    form = asked(engine)["response_format"]
    assert (form["type"], form["json_schema"]["name"], form["json_schema"]["strict"]) == ("json_schema", "City", True)


async def test_log_probabilities_are_told_if_they_are_included(served: Served, sdk: Sdk) -> None:
    request: Any = {
        "model": MODEL, "input": "hi", "include": ["message.output_text.logprobs"], "top_logprobs": 2,
        **scripted(tokens=2),
    }  # fmt: skip
    plain = await sdk(served).responses.create(**request)
    part = plain.output[0].content[0]  # type: ignore[union-attr]
    assert isinstance(part, ResponseOutputText)
    assert [entry.token for entry in part.logprobs or []] == ["t0 ", "t1 "]
    assert [len(entry.top_logprobs) for entry in part.logprobs or []] == [2, 2]
    stream = await sdk(served).responses.create(stream=True, **request)
    told = [event.logprobs async for event in stream if event.type == "response.output_text.delta"]
    assert [entry.token for entries in told for entry in entries] == ["t0 ", "t1 "]


async def test_tokens_are_counted_by_the_engine(served: Served, sdk: Sdk) -> None:
    count = await sdk(served).responses.input_tokens.count(model=MODEL, input="hello there", instructions="be brief")
    assert (count.object, count.input_tokens) == ("response.input_tokens", 4)


class TestEnds:
    async def test_an_answer_that_was_cut_is_incomplete(self, served: Served, sdk: Sdk) -> None:
        request: Any = {"model": MODEL, "input": "hi", "max_output_tokens": 2}
        plain = await sdk(served).responses.create(**request)
        *_, last = [event async for event in await sdk(served).responses.create(stream=True, **request)]
        assert last.type == "response.incomplete"
        for response in (plain, last.response):
            assert response.status == "incomplete"
            assert response.incomplete_details.reason == "max_output_tokens"
            assert response.output[0].status == "incomplete"
            assert response.output_text == "t0 t1 "
            assert response.error is None

    @pytest.mark.parametrize("fault", ["error_after", "cut_after", "crash_after"])
    async def test_an_answer_that_failed_says_so_with_what_there_is_of_it(
        self, served: Served, sdk: Sdk, fault: str
    ) -> None:
        """The SDK raises nothing for `response.failed`: whoever reads events sees it as the last one."""
        stream = await sdk(served).responses.create(model=MODEL, input="hi", stream=True, **scripted(**{fault: 2}))
        *_, last = [event async for event in stream]
        assert last.type == "response.failed"
        assert (last.response.status, last.response.output_text) == ("failed", "t0 t1 ")
        assert last.response.output[0].status == "incomplete"
        assert last.response.error.code == "server_error"
        assert last.response.error.message

    async def test_whoever_wants_the_final_response_of_one_that_failed_gets_an_exception(
        self, served: Served, sdk: Sdk
    ) -> None:
        async with sdk(served).responses.stream(model=MODEL, input="hi", **scripted(error_after=2)) as stream:
            with pytest.raises(RuntimeError, match=r"response\.completed"):
                await stream.get_final_response()

    async def test_what_fails_after_nothing_but_comments_is_a_response_that_failed(
        self, serve: Any, hand_engine: HandEngine, sdk: Sdk
    ) -> None:
        served = serve(hand_engine.url, web={"heartbeat_interval": 0.02})
        reading = asyncio.create_task(served.raw({"model": MODEL, "input": "hi", "stream": True}, "/v1/responses"))
        talk = await hand_engine.next()
        raw = await reading
        await raw.until(b": ")
        await talk.answer(400, b'{"message": "too long", "code": 400}')
        text = (await raw.rest()).decode()
        kinds = [line.removeprefix("event: ").strip() for line in text.splitlines() if line.startswith("event: ")]
        assert kinds == ["response.created", "response.in_progress", "response.failed"]
        assert '"code":"invalid_prompt","message":"too long"' in text

    async def test_what_a_guard_ends_is_incomplete(self, serve: Any, engine: ScriptedServer, sdk: Sdk) -> None:
        guards = Guards(blocked_answers=("t3",), held_back_characters=4)
        served = serve(engine, settings=settings_with().model_copy(update={"guards": guards}))
        plain = await sdk(served).responses.create(model=MODEL, input="hi")
        *_, last = [event async for event in await sdk(served).responses.create(model=MODEL, input="hi", stream=True)]
        for response in (plain, last.response):
            assert response.status == "incomplete"
            assert response.incomplete_details.reason == "content_filter"
            assert response.output_text == "t0 t1 t2 "

    async def test_an_empty_answer_is_an_empty_message(self, served: Served, sdk: Sdk) -> None:
        response = await sdk(served).responses.create(model=MODEL, input="hi", **scripted(text=""))
        assert (response.output_text, [item.type for item in response.output]) == ("", ["message"])


class TestErrors:
    @pytest.mark.parametrize(
        ("given", "param", "code"),
        [
            ({"previous_response_id": "resp_1"}, "previous_response_id", "previous_response_not_found"),
            ({"background": True}, "background", "unsupported_parameter"),
            ({"prompt": {"id": "pmpt_1"}}, "prompt", "unsupported_parameter"),
            ({"tools": [{"type": "web_search"}]}, "tools[0].type", "invalid_value"),
            ({"input": []}, "input", "invalid_value"),
        ],
    )
    async def test_a_refusal_names_its_field(self, served: Served, sdk: Sdk, given: Any, param: str, code: str) -> None:
        request: Any = {"model": MODEL, "input": "hi"} | given
        with pytest.raises(openai.BadRequestError) as caught:
            await sdk(served).responses.create(**request)
        assert (caught.value.param, caught.value.code) == (param, code)

    async def test_a_model_that_is_not_there(self, served: Served, sdk: Sdk) -> None:
        with pytest.raises(openai.NotFoundError) as caught:
            await sdk(served).responses.create(model="no/such", input="hi")
        assert caught.value.code == "model_not_found"

    async def test_an_engine_that_is_full(self, served: Served, sdk: Sdk) -> None:
        for stream in (False, True):
            with pytest.raises(openai.InternalServerError) as caught:
                await sdk(served).responses.create(
                    model=MODEL, input="hi", stream=stream, **scripted(error_after=0, error_status=503)
                )
            assert (caught.value.status_code, caught.value.code) == (503, "server_is_overloaded")
