"""No body, however odd, is more than a 400: what is parsed can be told to every engine, and what cannot is named."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.settings import Model
from tests.web.conftest import MODEL
from web.asgi import read_body
from web.capabilities import check_generation
from web.dialects.embeddings import parse_embeddings
from web.dialects.engine_tokens import template_call
from web.dialects.engines import engine_call
from web.dialects.fields import FIELDS
from web.dialects.json_schema import check_schema
from web.dialects.openai import parse_chat, parse_text
from web.dialects.tokenize import parse_detokenize, parse_tokenize
from web.engines import EngineTarget
from web.errors import InvalidRequest

if TYPE_CHECKING:
    import aiohttp

    from functions.engines.scripted_server import ScriptedServer
    from tests.web.conftest import Served

Json = dict[str, Any]
USER = {"role": "user", "content": "hi"}
CHAT = {"model": MODEL, "messages": [USER]}
TARGETS = [EngineTarget(url="http://x", kind=kind, model="m") for kind in ("sglang", "llamacpp", "scripted")]
BLIND = Model(id="m", name="n")


async def test_a_length_that_is_no_number_is_passed_over() -> None:
    async def receive() -> Json:
        return {"type": "http.request", "body": b"{}"}

    scope = {"type": "http", "headers": [(b"content-length", "²".encode("latin-1"))]}
    assert await read_body(scope, receive, limit=10) == b"{}"


def deep(levels: int, inside: bytes = b"1") -> bytes:
    return b"[" * levels + inside + b"]" * levels


WORDS = st.sampled_from([
    "type", "function", "name", "parameters", "properties", "required", "$ref", "#", "#/$defs/a", "$defs", "anyOf",
    "object", "string", "auto", "none", "json_schema", "schema", "text", "image_url", "url", "content", "role", "user",
    "assistant", "tool", "tool_calls", "id", "arguments", "allowed_tools", "mode", "tools", "", "\x00", "𐍈", "1",
    "items", "enum",
    "float", "base64", "refusal", "system", "input_audio", "tool_call_id",
])  # fmt: skip
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False), WORDS,
    st.text(max_size=5),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4), max_leaves=12
)
NAMES = st.sampled_from(sorted({field.name for field in FIELDS} | {"input", "dimensions", "tokens", "encoding_format"}))
TOOL = st.fixed_dictionaries({
    "type": st.just("function"),
    "function": st.fixed_dictionaries({"name": st.sampled_from(["f", "g"]), "parameters": VALUES}),
})  # fmt: skip
CHOICE = st.one_of(
    st.sampled_from(["auto", "none", "required"]),
    st.fixed_dictionaries(
        {"type": st.just("function"), "function": st.fixed_dictionaries({"name": WORDS | st.just("f")})}
    ),
)


def survives(body: Json) -> None:
    """Every parser takes it or refuses it, and what is taken can be put in every engine's words."""
    raw = json.dumps(body).encode()
    for parse in (parse_chat, parse_text):
        try:
            request = parse(raw)
            check_generation(BLIND, request)
        except InvalidRequest as error:
            assert error.code
            continue
        for target in TARGETS:
            json.loads(engine_call(request, kind=target.kind, model="m", rid="r").body)
            if request.kind == "chat":
                json.loads(template_call(target, request.fields).body)
    for other in (parse_embeddings, parse_tokenize, parse_detokenize):
        try:
            other(raw)
        except InvalidRequest as error:
            assert error.code


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.dictionaries(NAMES, VALUES, max_size=4))
def test_any_value_in_any_field(fields: Json) -> None:
    survives(CHAT | {"prompt": "x"} | fields)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.lists(TOOL, min_size=1, max_size=2), CHOICE, VALUES)
def test_any_tools(tools: list[Json], choice: Any, schema: Any) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
    survives(CHAT | {"tools": tools, "tool_choice": choice, "response_format": wanted})


ODD: dict[str, tuple[bytes, int]] = {
    "nothing": (b"", 400),
    "not JSON": (b"{", 400),
    "a list": (b"[]", 400),
    "not UTF-8": (b'{"model":"\xff"}', 400),
    "half a surrogate pair": (b'{"model":"m","messages":[{"role":"user","content":"\\ud800"}]}', 400),
    "NaN": (b'{"model":"m","messages":[{"role":"user","content":"x"}],"temperature":NaN}', 400),
    "infinity": (b'{"model":"m","messages":[{"role":"user","content":"x"}],"temperature":1e999}', 400),
    "a huge number": (json.dumps(CHAT | {"max_tokens": 10**40}).encode(), 400),
    "deeper than is read": (b'{"model":"m","messages":' + deep(2000) + b"}", 400),
    "deeper than is written": (
        json.dumps(CHAT)[:-1].encode() + b',"chat_template_kwargs":{"a":' + deep(500) + b"}}",
        400,
    ),
    "deep where nobody looks": (json.dumps(CHAT)[:-1].encode() + b',"metadata":' + deep(500) + b"}", 400),
    "a key twice, of which the last counts": (b'{"model":"nobody",' + json.dumps(CHAT)[1:].encode(), 200),
    "white space around it": (b" \n" + json.dumps(CHAT).encode() + b"\r\n", 200),
    "a zero character": (json.dumps(CHAT | {"messages": [{"role": "user", "content": "a\x00b"}]}).encode(), 200),
}


@pytest.mark.parametrize(("body", "status"), ODD.values(), ids=ODD.keys())
async def test_odd_bodies_over_a_socket(served: Served, http: aiohttp.ClientSession, body: bytes, status: int) -> None:
    async with http.post(served.url + "/v1/chat/completions", data=body) as response:
        assert response.status == status, await response.text()
        if status == 400:
            assert set((await response.json())["error"]) == {"message", "type", "param", "code"}
    for path in ("/v1/completions", "/v1/embeddings", "/tokenize", "/v1/detokenize"):
        async with http.post(served.url + path, data=body) as response:
            assert response.status < 500, path
            assert response.status == 200 or (await response.json())["error"]["message"]


@pytest.mark.parametrize(
    "key",
    ["a\r\nX-Evil: 1", "ünï☃", "a" * 100_000, "\x00", " a b", "k"],
    ids=["lines", "wide", "long", "zero", "spaces", "plain"],
)
async def test_any_cache_key_is_an_affinity_that_a_header_holds(
    served: Served, engine: ScriptedServer, http: aiohttp.ClientSession, key: str
) -> None:
    for _ in range(2):
        async with http.post(served.url + "/v1/chat/completions", json=CHAT | {"prompt_cache_key": key}) as response:
            assert response.status == 200
    one, two = [request["session"] for request in engine.state()["requests"]]
    assert one == two
    assert "x-evil" not in engine.state()["requests"][0]["headers"]


def chat_with(**more: Any) -> bytes:
    return json.dumps(CHAT | more).encode()


F = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}
AUDIO = {"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}}


def schema(of: Any) -> Json:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": of}}}


def said(*parts: Json) -> Json:
    return {"messages": [{"role": "user", "content": parts}]}


def tool(parameters: Any) -> Json:
    return {"tools": [{"type": "function", "function": {"name": "f", "parameters": parameters}}]}


@pytest.mark.parametrize(
    ("more", "param"),
    [
        (said({"type": "text", "text": "a"}, AUDIO), "messages[0].content[1].type"),
        (said({"type": "file", "file": {}}), "messages[0].content[0].type"),
        ({"messages": [{"role": "function", "name": "f", "content": "x"}]}, "messages[0].role"),
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools[0].type"),
        ({"tools": [F, F]}, "tools[1].function.name"),
        ({"tools": [F] * 129}, "tools"),
        ({"tools": [F], "tool_choice": {"type": "custom", "custom": {"name": "f"}}}, "tool_choice.type"),
        ({"tools": [F], "tool_choice": {"type": "function", "function": {"name": "g"}}}, "tool_choice.function.name"),
        ({"tools": [F], "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [
            {"type": "function", "function": {"name": "g"}}]}}}, "tool_choice.allowed_tools.tools[0].function.name"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"response_format": {"type": "grammar"}}, "response_format.type"),
        (schema({"type": "nonsense"}), "response_format.json_schema.schema.type"),
        (schema({"type": "object", "properties": {"a": {"type": ["string", "text"]}}}),
         "response_format.json_schema.schema.properties.a.type"),
        (schema({"properties": 5}), "response_format.json_schema.schema.properties"),
        (schema({"anyOf": []}), "response_format.json_schema.schema.anyOf"),
        (schema({"anyOf": [{}, 5]}), "response_format.json_schema.schema.anyOf[1]"),
        (schema({"required": "a"}), "response_format.json_schema.schema.required"),
        (schema({"enum": []}), "response_format.json_schema.schema.enum"),
        (schema({"pattern": 5}), "response_format.json_schema.schema.pattern"),
        (schema({"maxLength": -1}), "response_format.json_schema.schema.maxLength"),
        (schema({"minimum": "1"}), "response_format.json_schema.schema.minimum"),
        (schema({"$ref": "#/$defs/none"}), "response_format.json_schema.schema.$ref"),
        (schema({"$ref": "http://example.org/s"}), "response_format.json_schema.schema.$ref"),
        (tool({"type": "array"}), "tools[0].function.parameters.type"),
        (tool({"properties": {"a": {"items": 1}}}), "tools[0].function.parameters.properties.a.items"),
        ({"logit_bias": {"hello": 1}}, "logit_bias.hello"),
        ({"chat_template_kwargs": {"x": 1, "chat_template": "{{ x }}"}}, "chat_template_kwargs.chat_template"),
        ({"chat_template_kwargs": {"tokenize": False}}, "chat_template_kwargs.tokenize"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"n": 129}, "n"),
        ({"seed": 2**63}, "seed"),
        ({"reasoning_effort": "a lot"}, "reasoning_effort"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"top_logprobs": 21, "logprobs": True}, "top_logprobs"),
        (said({"type": "image_url", "image_url": {"url": "file:///etc/x"}}), "messages[0].content[0].image_url.url"),
        (said({"type": "image_url", "image_url": {"url": "/etc/x"}}), "messages[0].content[0].image_url.url"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_where_it_is(more: Json, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_chat(chat_with(**more))
    assert caught.value.param == param


def test_as_many_choices_as_there_may_be() -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_text(json.dumps({"model": MODEL, "prompt": ["x"] * 100, "n": 100}).encode())
    assert caught.value.param == "prompt"


@pytest.mark.parametrize(
    "good",
    [
        {},
        {
            "type": "object",
            "properties": {"a": True, "b": {"$ref": "#/$defs/a~1b"}},
            "$defs": {"a/b": {"type": "null"}},
        },
        {"type": ["string", "null"], "pattern": "^a", "minLength": 0, "maxLength": 5},
        {"items": [{"type": "integer"}], "additionalItems": False},
        {"prefixItems": [{}], "items": False},
        {"anyOf": [{"$ref": "#/anyOf/1"}, {"const": {"$ref": 5}}]},
        {"$ref": "#"},
        {"description": 5, "x-mine": [1]},
    ],
)
def test_good_schemas_are_taken(good: Json) -> None:
    check_schema(good, "s")


def test_the_allowed_tools_are_the_ones_that_the_engine_hears_of() -> None:
    g = {"type": "function", "function": {"name": "g"}}
    allowed = {"mode": "required", "tools": [g]}
    request = parse_chat(chat_with(tools=[F, g], tool_choice={"type": "allowed_tools", "allowed_tools": allowed}))
    assert (request.fields["tools"], request.fields["tool_choice"]) == ([g], "required")


class TestImages:
    BODY = chat_with(messages=[USER, {"role": "user", "content": [{"type": "text", "text": "what?"}, IMAGE]}])

    def test_a_model_that_does_not_see_is_not_shown_any(self) -> None:
        with pytest.raises(InvalidRequest) as caught:
            check_generation(BLIND, parse_chat(self.BODY))
        assert caught.value.param == "messages[1].content[1]"

    def test_one_that_does_is(self) -> None:
        request = parse_chat(self.BODY)
        check_generation(BLIND.model_copy(update={"vision": True}), request)
        told = json.loads(engine_call(request, kind="sglang", model="m", rid="r").body)
        assert told["messages"][1]["content"][1] == IMAGE

    async def test_the_caller_is_told_before_the_engine_is_asked(
        self, served: Served, http: aiohttp.ClientSession
    ) -> None:
        async with http.post(served.url + "/v1/chat/completions", data=self.BODY) as response:
            assert (response.status, (await response.json())["error"]["param"]) == (400, "messages[1].content[1]")


@pytest.mark.parametrize(("given", "told"), [("", None), ([], None), (["", "a"], ["a"]), ([""], None), ("a", "a")])
def test_an_empty_string_stops_nothing(given: Any, told: Any) -> None:
    assert parse_chat(chat_with(stop=given)).fields.get("stop") == told


def test_a_schema_that_is_not_given_is_any_object_and_text_is_no_format() -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "s"}}
    assert parse_chat(chat_with(response_format=wanted)).fields["response_format"] == {"type": "json_object"}
    assert "response_format" not in parse_chat(chat_with(response_format={"type": "text"})).fields
