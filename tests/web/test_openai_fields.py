"""The table of request fields is what happens: held against the SDK's own list, the engine's ears and the document."""

from __future__ import annotations

import json
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import openai
import pytest
from openai.types import completion_create_params as text_params
from openai.types.chat import completion_create_params as chat_params

from tests.web.conftest import MODEL
from web.dialects.fields import FIELDS, RequestField, names, table
from web.dialects.openai import parse_chat, parse_text

if TYPE_CHECKING:
    from functions.engines.scripted_server import ScriptedServer
    from tests.web.conftest import Served

Json = dict[str, Any]
DOCUMENT = Path(__file__).parents[2] / "docs/api.md"
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
SCHEMA = {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}}
BASE: dict[str, Json] = {
    "chat": {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]},
    "text": {"model": MODEL, "prompt": "hi"},
}
PATHS = {"chat": "/chat/completions", "text": "/completions"}
VALUES: Json = {
    "audio": {"voice": "alloy", "format": "mp3"}, "frequency_penalty": 0.5, "function_call": "auto",
    "functions": [{"name": "f"}], "logit_bias": {"5": 1}, "logprobs": True, "max_completion_tokens": 3,
    "max_tokens": 4, "metadata": {"a": "b"}, "modalities": ["text"], "model": MODEL,
    "moderation": {"model": "m"}, "n": 2, "parallel_tool_calls": True,
    "prediction": {"type": "content", "content": "x"}, "presence_penalty": 0.5, "prompt_cache_key": "mine",
    "prompt_cache_options": {"ttl": "30m"}, "prompt_cache_retention": "24h", "reasoning_effort": "low",
    "response_format": SCHEMA, "safety_identifier": "s", "seed": 1, "service_tier": "auto", "stop": ["x"],
    "store": True, "stream": False, "stream_options": {"include_usage": True, "include_obfuscation": True},
    "temperature": 0.5, "tool_choice": "auto", "tools": TOOLS, "top_logprobs": 2, "top_p": 0.5, "user": "u",
    "verbosity": "low", "web_search_options": {"search_context_size": "low"}, "top_k": 5, "min_p": 0.1,
    "repetition_penalty": 1.1, "chat_template_kwargs": {"a": 1}, "best_of": 3, "echo": True, "suffix": "end",
    "messages": BASE["chat"]["messages"], "prompt": "hi",
}  # fmt: skip
NEEDS: Json = {
    "top_logprobs": {"logprobs": True},
    "tool_choice": {"tools": TOOLS},
    "parallel_tool_calls": {"tools": TOOLS},
}
TEXT_VALUES: Json = {"logprobs": 2}


def body(field: RequestField, kind: str) -> Json:
    value = TEXT_VALUES.get(field.name, VALUES[field.name]) if kind == "text" else VALUES[field.name]
    return BASE[kind] | NEEDS.get(field.name, {}) | {field.name: value}


def cases(*fates: str) -> list[Any]:
    return [
        pytest.param(field, kind, id=f"{kind}-{field.name}")
        for field in FIELDS
        for kind in field.kinds
        if field.fate in fates
    ]


@pytest.mark.parametrize(
    ("kind", "params"),
    [
        ("chat", (chat_params.CompletionCreateParamsNonStreaming, chat_params.CompletionCreateParamsStreaming)),
        ("text", (text_params.CompletionCreateParamsNonStreaming, text_params.CompletionCreateParamsStreaming)),
    ],
)
def test_every_field_of_the_sdk_has_its_place_in_the_table_and_no_other(kind: Any, params: tuple[type, ...]) -> None:
    theirs = {name for each in params for name in typing.get_type_hints(each)}
    ours = {field.name for field in FIELDS if kind in field.kinds and field.openai}
    assert ours == theirs
    assert all(field.name not in theirs for field in FIELDS if kind in field.kinds and not field.openai)


def test_no_field_has_two_fates() -> None:
    for kind in ("chat", "text"):
        mine = [field.name for field in FIELDS if kind in field.kinds]
        assert len(mine) == len(set(mine))


async def engine_heard(served: Served, engine: ScriptedServer, field: RequestField, kind: str) -> Json:
    await served.sdk().post(PATHS[kind], body=body(field, kind), cast_to=object)
    heard: Json = engine.state()["requests"][-1]["body"]
    return heard


@pytest.mark.parametrize(("field", "kind"), cases("engine"))
async def test_what_the_engine_honours_reaches_it(
    served: Served, engine: ScriptedServer, field: RequestField, kind: str
) -> None:
    heard = await engine_heard(served, engine, field, kind)
    assert heard[field.name] == body(field, kind)[field.name]


@pytest.mark.parametrize(("field", "kind"), cases("ignored"))
async def test_what_is_ignored_changes_nothing_of_what_the_engine_is_asked(
    served: Served, engine: ScriptedServer, field: RequestField, kind: str
) -> None:
    await served.sdk().post(PATHS[kind], body=BASE[kind], cast_to=object)
    without = engine.state()["requests"][-1]["body"]
    heard = await engine_heard(served, engine, field, kind)
    assert {**heard, "rid": ""} == {**without, "rid": ""}


@pytest.mark.parametrize(("field", "kind"), cases("refused"))
async def test_what_is_refused_is_a_400_that_names_it(
    served: Served, engine: ScriptedServer, field: RequestField, kind: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await engine_heard(served, engine, field, kind)
    assert (caught.value.param, caught.value.code) == (field.name, "unsupported_parameter")
    assert field.note in caught.value.message
    assert engine.state()["started"] == 0


@pytest.mark.parametrize(("field", "kind"), cases("engine", "service", "ignored", "refused"))
def test_null_is_as_if_it_were_not_there(field: RequestField, kind: str) -> None:
    parse = {"chat": parse_chat, "text": parse_text}[kind]
    if field.name in ("model", "messages", "prompt"):
        return
    assert parse(json.dumps(BASE[kind] | {field.name: None}).encode()) == parse(json.dumps(BASE[kind]).encode())


class TestWhatTheServiceItselfHonours:
    """The fields whose fate is `service`: each of them, and no other, is spoken of here."""

    def test_these_are_they(self) -> None:
        assert set(names("chat", "service")) == {
            "model", "stream", "stream_options", "max_completion_tokens", "prompt_cache_key", "modalities",
            "parallel_tool_calls",
        }  # fmt: skip
        assert set(names("text", "service")) == {"model", "stream", "stream_options", "prompt_cache_key"}

    async def test_the_newer_limit_wins(self, served: Served, engine: ScriptedServer) -> None:
        more = {"max_tokens": 9, "max_completion_tokens": 3}
        answer: Any = await served.sdk().post(PATHS["chat"], body=BASE["chat"] | more, cast_to=object)
        assert (answer["usage"]["completion_tokens"], answer["choices"][0]["finish_reason"]) == (3, "length")

    async def test_a_completion_has_sixteen_tokens_unless_it_says_so(self, served: Served) -> None:
        script = {"x_scripted": {"tokens": 40}}
        answer: Any = await served.sdk().post(PATHS["text"], body=BASE["text"] | script, cast_to=object)
        assert (answer["usage"]["completion_tokens"], answer["choices"][0]["finish_reason"]) == (16, "length")

    async def test_other_modalities_are_refused(self, served: Served) -> None:
        with pytest.raises(openai.BadRequestError) as caught:
            await served.sdk().post(
                PATHS["chat"], body=BASE["chat"] | {"modalities": ["text", "audio"]}, cast_to=object
            )
        assert caught.value.param == "modalities"

    @pytest.mark.parametrize("kind", ["chat", "text"])
    async def test_a_cache_key_is_the_affinity(self, served: Served, engine: ScriptedServer, kind: str) -> None:
        await served.sdk().post(PATHS[kind], body=BASE[kind] | {"prompt_cache_key": "mine"}, cast_to=object)
        assert engine.state()["requests"][-1]["session"] == "mine"

    @pytest.mark.parametrize("stream", [True, False])
    @pytest.mark.parametrize("several", [None, True, False])
    async def test_calls_come_one_at_a_time_for_who_wants_that(
        self, served: Served, stream: bool, several: bool | None
    ) -> None:
        calls = [{"name": "f", "arguments": '{"a": 1}'}, {"name": "f", "arguments": '{"a": 2}'}]
        options: Any = {} if several is None else {"parallel_tool_calls": several}
        options |= {"tools": TOOLS, "extra_body": {"x_scripted": {"text": "", "tool_calls": calls}}}
        client = served.sdk().chat.completions
        if stream:
            async with client.stream(model=MODEL, messages=BASE["chat"]["messages"], **options) as events:
                answer: Any = await events.get_final_completion()
        else:
            answer = await client.create(model=MODEL, messages=BASE["chat"]["messages"], **options)
        told = [json.loads(call.function.arguments)["a"] for call in answer.choices[0].message.tool_calls]
        assert told == ([1] if several is False else [1, 2])
        assert answer.choices[0].finish_reason == "tool_calls"


@pytest.mark.parametrize("kind", ["chat", "text"])
def test_the_document_shows_the_table(kind: Any) -> None:
    assert table(kind) in DOCUMENT.read_text(encoding="utf-8")
