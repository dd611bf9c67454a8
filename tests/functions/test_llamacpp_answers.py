"""What callers get of llama.cpp through the service, by OpenAI's SDK: the demo model knows no tools and no JSON, so
whatever has the right form was made to have it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Annotated, Any, Literal

import openai
import pytest
from pydantic import BaseModel, Field

from functions.demo import MODEL_FOLDER
from functions.engines.base import Address
from functions.engines.llamacpp import LlamaCppEngine
from infra.settings import Model, Models, Settings
from tests.configured_engines import ConfiguredEngines
from tests.ports import free_port
from tests.web.conftest import running, web_loop
from web.application import create_application
from web.engines import EngineTarget
from web.services import Services

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.web.conftest import Served

__all__ = ["web_loop"]

HELLO: Any = [{"role": "user", "content": "Hello"}]
DEMO = Model(id="demo", name="demo", context_length=2048, startup_timeout=30)
PLACE = {
    "type": "object",
    "properties": {
        "city": {"$ref": "#/$defs/city"}, "days": {"type": "integer", "minimum": 0, "maximum": 9},
        "unit": {"enum": ["C", "F"]},
    },
    "required": ["city", "days", "unit"],
    "additionalProperties": False,
    "$defs": {"city": {"type": "string", "maxLength": 8}},
}  # fmt: skip
TOOLS: Any = [
    {"type": "function", "function": {"name": "weather", "description": "Tells it.", "parameters": PLACE}},
    {"type": "function", "function": {"name": "stop"}},
]
WEATHER: Any = {"type": "function", "function": {"name": "weather"}}


@pytest.fixture(scope="module")
def engine() -> Iterator[LlamaCppEngine]:
    address = Address(host="127.0.0.1", port=free_port())
    engine = LlamaCppEngine(DEMO, source=str(MODEL_FOLDER), address=address, api_key=None, max_requests=4)
    engine.start()
    yield engine
    engine.stop()


@pytest.fixture(scope="module")
def served(engine: LlamaCppEngine, web_loop: asyncio.AbstractEventLoop) -> Iterator[Served]:
    settings = Settings(models=Models(available_models=(DEMO,)))
    target = EngineTarget(url=engine.address.url, kind="llamacpp", model="demo")
    with running(
        create_application(Services(settings=settings, engines=ConfiguredEngines(settings.models, {"demo": target}))),
        web_loop,
    ) as served:
        yield served


async def ask(served: Served, **more: Any) -> Any:
    options = {"temperature": 0, "max_tokens": 400, **more}
    return await served.sdk().chat.completions.create(model="demo", messages=HELLO, **options)


def fits(arguments: str) -> bool:
    told = json.loads(arguments)
    assert set(told) == {"city", "days", "unit"}
    assert isinstance(told["city"], str) and len(told["city"]) <= 8
    return isinstance(told["days"], int) and 0 <= told["days"] <= 9 and told["unit"] in ("C", "F")


class TestToolsAreCalledWhenTheyMustBe:
    @pytest.mark.slow
    async def test_a_named_function_is_called_with_arguments_that_fit_its_schema(self, served: Served) -> None:
        for seed in range(3):
            answer = await ask(served, tools=TOOLS, tool_choice=WEATHER, temperature=1.5, seed=seed)
            (choice,) = answer.choices
            (call,) = choice.message.tool_calls
            assert (choice.finish_reason, choice.message.content, call.type) == ("tool_calls", None, "function")
            assert call.function.name == "weather"
            assert fits(call.function.arguments)
            assert call.id

    @pytest.mark.slow
    async def test_required_calls_one_of_the_tools(self, served: Served) -> None:
        names = set()
        for seed in range(4):
            answer = await ask(served, tools=TOOLS, tool_choice="required", temperature=2, seed=seed, max_tokens=600)
            names |= {call.function.name for call in answer.choices[0].message.tool_calls}
        assert names <= {"weather", "stop"}

    async def test_a_function_without_parameters_gets_an_object(self, served: Served) -> None:
        allowed = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [
            {"type": "function", "function": {"name": "empty"}}]}}  # fmt: skip
        empty = {"type": "object", "properties": {}, "additionalProperties": False}
        tools = [*TOOLS, {"type": "function", "function": {"name": "empty", "parameters": empty}}]
        answer = await ask(served, tools=tools, tool_choice=allowed)
        (call,) = answer.choices[0].message.tool_calls
        assert (call.function.name, call.function.arguments) == ("empty", "{}")

    @pytest.mark.slow
    async def test_streamed_it_comes_in_pieces_that_the_sdk_puts_together(self, served: Served) -> None:
        options: Any = {"tools": TOOLS, "tool_choice": WEATHER, "temperature": 0, "max_tokens": 400}
        async with served.sdk().chat.completions.stream(model="demo", messages=HELLO, **options) as stream:
            chunks = [event.chunk async for event in stream if event.type == "chunk"]
            final = await stream.get_final_completion()
        calls = [chunk.choices[0].delta.tool_calls for chunk in chunks if chunk.choices[0].delta.tool_calls]
        assert calls[0][0].function.name == "weather"
        assert all(call[0].index == 0 for call in calls)
        assert len(calls) > 3
        assert not any(chunk.choices[0].delta.content for chunk in chunks)
        (call,) = final.choices[0].message.tool_calls or []
        assert final.choices[0].finish_reason == "tool_calls"
        assert fits(call.function.arguments)

    async def test_an_answer_cut_by_its_limit_says_so(self, served: Served) -> None:
        answer = await ask(served, tools=TOOLS, tool_choice=WEATHER, max_tokens=12)
        assert answer.choices[0].finish_reason == "length"

    @pytest.mark.slow
    async def test_each_of_several_answers_calls(self, served: Served) -> None:
        answer = await ask(served, tools=TOOLS, tool_choice=WEATHER, n=2, temperature=1.5, seed=1)
        for choice in answer.choices:
            assert fits(choice.message.tool_calls[0].function.arguments)
        assert len({choice.message.tool_calls[0].id for choice in answer.choices}) == 2

    async def test_auto_and_none_leave_it_to_the_model(self, served: Served) -> None:
        for choice in ("auto", "none"):
            answer = await ask(served, tools=TOOLS, tool_choice=choice)
            assert answer.choices[0].message.content
            assert answer.choices[0].message.tool_calls is None


class Step(BaseModel):
    count: Annotated[int, Field(ge=0, le=9)]
    kind: Literal["a", "b"]


class TestJson:
    async def test_structured_outputs_parse(self, served: Served) -> None:
        answer = await served.sdk().chat.completions.parse(
            model="demo", messages=HELLO, response_format=Step, temperature=1.5, seed=2, max_tokens=400
        )
        assert isinstance(answer.choices[0].message.parsed, Step)

    async def test_a_schema_constrains_a_stream_too(self, served: Served) -> None:
        schema = {"type": "object", "properties": {"plan": {"$ref": "#/$defs/S"}}, "required": ["plan"],
                  "additionalProperties": False, "$defs": {"S": {"enum": ["x", "y"]}}}  # fmt: skip
        wanted = {"type": "json_schema", "json_schema": {"name": "plan", "schema": schema}}
        stream = await ask(served, response_format=wanted, stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        assert json.loads(text)["plan"] in ("x", "y")

    @pytest.mark.parametrize("schema", [{"$ref": "#"}, {"type": "string", "pattern": "^([a-z$"}])
    async def test_what_its_grammar_cannot_hold_is_a_400_that_names_the_field(
        self, served: Served, schema: Any
    ) -> None:
        wanted = {"type": "json_schema", "json_schema": {"name": "plan", "schema": schema}}
        with pytest.raises(openai.BadRequestError) as caught:
            await ask(served, response_format=wanted)
        assert caught.value.param == "response_format"


class TestLogprobs:
    @pytest.mark.parametrize("top", [None, 0, 2])
    async def test_a_chats_have_openais_shape(self, served: Served, top: int | None) -> None:
        more = {} if top is None else {"top_logprobs": top}
        answer = await ask(served, logprobs=True, max_tokens=4, **more)
        entries = answer.choices[0].logprobs.content
        assert "".join(entry.token for entry in entries) == answer.choices[0].message.content
        assert all(len(entry.top_logprobs) == (top or 0) for entry in entries)
        assert all(entry.logprob <= 0 and bytes(entry.bytes) == entry.token.encode() for entry in entries)
        assert "id" not in (entries[0].model_extra or {})

    @pytest.mark.parametrize("top", [0, 3])
    async def test_a_completions_have_the_older_one(self, served: Served, top: int) -> None:
        for stream in (False, True):
            told: Any = await served.sdk().completions.create(
                model="demo", prompt="Hello", logprobs=top, max_tokens=4, temperature=0, stream=stream
            )
            answers = [chunk async for chunk in told] if stream else [told]
            choices = [choice for answer in answers for choice in answer.choices if choice.logprobs]
            text = "".join(choice.text for choice in choices)
            tokens = [token for choice in choices for token in choice.logprobs.tokens]
            offsets = [offset for choice in choices for offset in choice.logprobs.text_offset]
            assert "".join(tokens) == text
            assert all(text[offset:].startswith(token) for offset, token in zip(offsets, tokens, strict=True))
            likely = [entry for choice in choices for entry in choice.logprobs.top_logprobs or []]
            assert [len(entry) for entry in likely] == ([3] * 4 if top else [])

    async def test_who_asks_for_none_gets_none(self, served: Served) -> None:
        answer = await ask(served, max_tokens=2)
        assert answer.choices[0].logprobs is None


class TestTokens:
    async def test_a_chat_has_as_many_as_its_answer_says(self, served: Served) -> None:
        messages: Any = [{"role": "system", "content": "Be brief. <b>"}, *HELLO]
        answer = await served.sdk().chat.completions.create(model="demo", messages=messages, max_tokens=1)
        told: Any = await served.sdk().post("/tokenize", body={"model": "demo", "messages": messages}, cast_to=object)
        assert told["count"] == len(told["tokens"]) == answer.usage.prompt_tokens  # type: ignore[union-attr]
        assert told["max_model_len"] == 2048

    async def test_a_prompt_and_back(self, served: Served) -> None:
        text = "Hello there, ünïcode ☃"
        client = served.sdk()
        told: Any = await client.post("/tokenize", body={"model": "demo", "prompt": text}, cast_to=object)
        back: Any = await client.post("/detokenize", body={"model": "demo", "tokens": told["tokens"]}, cast_to=object)
        assert back["prompt"] == text

    async def test_an_id_beyond_the_vocabulary_is_the_callers_mistake(self, served: Served) -> None:
        with pytest.raises(openai.BadRequestError) as caught:
            await served.sdk().post("/detokenize", body={"model": "demo", "tokens": [2_000_000]}, cast_to=object)
        assert caught.value.param == "tokens"


async def test_a_seed_makes_it_repeat_itself_and_a_bias_forbids_a_token(served: Served) -> None:
    wild = [await ask(served, temperature=2, seed=7, max_tokens=12) for _ in range(2)]
    assert wild[0].choices[0].message.content == wild[1].choices[0].message.content
    plain = await ask(served, max_tokens=4)
    first: Any = await served.sdk().post("/tokenize", body={"model": "demo", "prompt": "Hello"}, cast_to=object)
    biased = await ask(served, max_tokens=4, logit_bias={str(first["tokens"][0]): -100})
    assert plain.choices[0].message.content.startswith("Hello")
    assert not biased.choices[0].message.content.startswith("Hello")


async def test_a_stop_string_ends_it_and_is_not_told(served: Served) -> None:
    answer = await ask(served, stop=["!", ""])
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("Hello", "stop")
