"""The Responses API as tables: what a request means to an engine, and what of it the answer repeats."""

from __future__ import annotations

import json
from typing import Any, get_type_hints

import pytest
from openai.types.responses import input_token_count_params, response_create_params

from tests.web.conftest import MODEL
from web.dialects.pieces import Piece
from web.dialects.request import GenerationRequest
from web.dialects.responses import parse_count, parse_responses
from web.dialects.responses_answer import ResponsesDialect
from web.dialects.responses_schema import HONOURED, IGNORED, PARTLY, REFUSED, ResponsesRequest
from web.dialects.translation import StreamedAnswer
from web.errors import InvalidRequest, to_wire

Json = dict[str, Any]

USER = {"role": "user", "content": "hi"}
TOOL = {"type": "function", "name": "look", "parameters": {"type": "object"}, "strict": True}
LOOK = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}, "strict": True}}
HEAR = {"type": "function", "name": "hear"}
CALL = {
    "type": "function_call",
    "id": "fc_1",
    "call_id": "c1",
    "name": "look",
    "arguments": "{}",
    "status": "completed",
}
CALLED = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
RESULT = {"type": "function_call_output", "call_id": "c1", "output": "seen"}
THOUGHT = {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]}
SAID = {
    "type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
    "content": [{"type": "output_text", "text": "so", "annotations": [], "logprobs": []}],
}  # fmt: skip
PICTURE = {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "auto"}
SHOWN = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}


def body_of(**more: Any) -> bytes:
    return json.dumps({"model": MODEL, "input": "hi", **more}).encode()


def fields_of(**more: Any) -> Json:
    return dict(parse_responses(body_of(**more)).request().fields)


class TestFields:
    def test_every_field_of_the_sdk_is_honoured_ignored_or_refused(self) -> None:
        known = HONOURED.keys() | IGNORED.keys() | REFUSED.keys() | PARTLY.keys()
        for params in (
            response_create_params.ResponseCreateParamsNonStreaming,
            response_create_params.ResponseCreateParamsStreaming,
        ):
            asked = get_type_hints(params, vars(response_create_params))
            assert asked.keys() <= known
        counted = get_type_hints(input_token_count_params.InputTokenCountParams, vars(input_token_count_params))
        assert counted.keys() - {"personality"} <= known

    def test_no_field_is_two_of_them(self) -> None:
        tables = [HONOURED.keys(), IGNORED.keys(), REFUSED.keys(), PARTLY.keys()]
        assert len(set().union(*tables)) == sum(map(len, tables))

    def test_what_is_honoured_is_checked(self) -> None:
        assert set(ResponsesRequest.model_fields) >= HONOURED.keys()

    @pytest.mark.parametrize("name", REFUSED)
    def test_what_is_refused_is_named(self, name: str) -> None:
        for parse in (parse_responses, parse_count):
            with pytest.raises(InvalidRequest) as caught:
                parse(body_of(**{name: {"id": "x"}}))
            assert caught.value.param == name
            assert f"'{name}'" in caught.value.message

    @pytest.mark.parametrize("empty", [None, False, [], {}])
    def test_nothing_is_no_reason_to_refuse(self, empty: Any) -> None:
        assert fields_of(**dict.fromkeys(REFUSED, empty)) == fields_of()

    def test_what_is_ignored_reaches_no_engine(self) -> None:
        ignored: Json = {
            "stream_options": {"include_obfuscation": True}, "user": "u",
            "safety_identifier": "s", "max_tool_calls": 2, "service_tier": "flex", "prompt_cache_retention": "24h",
            "access_programs": {}, "image": {"context_compression": "auto"},
        }  # fmt: skip
        assert ignored.keys() == IGNORED.keys()
        more = {"truncation": "disabled", "prompt_cache_options": {"mode": "implicit"}, "what": "ever"}
        assert fields_of(**ignored, **more) == fields_of()

    @pytest.mark.parametrize(
        ("given", "param"), [({"prompt_cache_options": {"prewarm": True}}, "prompt_cache_options")]
    )
    def test_some_values_are_refused(self, given: Json, param: str) -> None:
        with pytest.raises(InvalidRequest) as caught:
            fields_of(**given)
        assert (caught.value.param, caught.value.code) == (param, "unsupported_value")

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ({}, {}),
            ({"max_output_tokens": 5, "temperature": 0, "top_p": 1}, {"max_tokens": 5, "temperature": 0, "top_p": 1}),
            ({"max_output_tokens": None, "tools": None, "text": None, "reasoning": None, "include": None}, {}),
            ({"reasoning": {"effort": "none", "summary": "auto"}}, {"reasoning_effort": "none"}),
            ({"top_logprobs": 3}, {"logprobs": True, "top_logprobs": 3}),
            ({"include": ["message.output_text.logprobs"]}, {"logprobs": True, "top_logprobs": 0}),
            ({"include": ["reasoning.encrypted_content"], "top_logprobs": 0}, {}),
            ({"text": {"format": {"type": "text"}, "verbosity": "low"}}, {}),
            ({"text": {"format": {"type": "json_object"}}}, {"response_format": {"type": "json_object"}}),
            (
                {"text": {"format": {"type": "json_schema", "name": "n", "schema": {}, "strict": None}}},
                {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}}},
            ),
            ({"tools": [TOOL]}, {"tools": [LOOK]}),
            ({"tools": [], "tool_choice": "auto", "parallel_tool_calls": True}, {}),
            (
                {"tools": [TOOL], "tool_choice": "required", "parallel_tool_calls": False},
                {"tools": [LOOK], "tool_choice": "required", "parallel_tool_calls": False},
            ),
            (
                {"tools": [TOOL], "tool_choice": {"type": "function", "name": "look"}},
                {"tools": [LOOK], "tool_choice": {"type": "function", "function": {"name": "look"}}},
            ),
            (
                {"tools": [TOOL, HEAR], "tool_choice": {
                    "type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "look"}]}},
                {"tools": [LOOK], "tool_choice": "required"},
            ),
        ],
    )  # fmt: skip
    def test_what_the_engine_is_told(self, given: Json, expected: Json) -> None:
        assert fields_of(**given) == {"messages": [USER]} | expected

    def test_a_cache_key_keeps_to_one_engine(self) -> None:
        assert parse_responses(body_of(prompt_cache_key="k")).request(affinity="other").affinity == "k"

    def test_a_count_is_of_what_the_answer_would_be_made_from(self) -> None:
        body = body_of(instructions="s", tools=[TOOL])
        assert parse_count(body).request().fields == parse_responses(body).request().fields


class TestInput:
    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ([{"role": "user", "content": "hi"}], [USER]),
            ([{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}], [USER]),
            (
                [{"role": "user", "content": [{"type": "input_text", "text": "see"}, PICTURE]}],
                [{"role": "user", "content": [{"type": "text", "text": "see"}, SHOWN]}],
            ),
            (
                [{"role": "user", "content": [PICTURE | {"detail": "high"}]}],
                [{"role": "user", "content": [
                    {"type": "image_url", "image_url": SHOWN["image_url"] | {"detail": "high"}}]}],
            ),
            (
                [{"role": "developer", "content": "be brief"}, USER],
                [{"role": "system", "content": "be brief"}, USER],
            ),
            ([USER, {"role": "assistant", "content": "so"}], [USER, {"role": "assistant", "content": "so"}]),
            (
                [USER, THOUGHT, SAID, CALL, RESULT, USER],
                [
                    USER,
                    {"role": "assistant", "content": "so", "reasoning_content": "hm", "tool_calls": [CALLED]},
                    {"role": "tool", "tool_call_id": "c1", "content": "seen"},
                    USER,
                ],
            ),
            (
                [CALL, CALL | {"call_id": "c2"}, RESULT, RESULT | {"call_id": "c2"}],
                [
                    {"role": "assistant", "content": None, "tool_calls": [CALLED, CALLED | {"id": "c2"}]},
                    {"role": "tool", "tool_call_id": "c1", "content": "seen"},
                    {"role": "tool", "tool_call_id": "c2", "content": "seen"},
                ],
            ),
            (
                [CALL, RESULT, CALL | {"call_id": "c2"}, RESULT | {"call_id": "c2"}],
                [
                    {"role": "assistant", "content": None, "tool_calls": [CALLED]},
                    {"role": "tool", "tool_call_id": "c1", "content": "seen"},
                    {"role": "assistant", "content": None, "tool_calls": [CALLED | {"id": "c2"}]},
                    {"role": "tool", "tool_call_id": "c2", "content": "seen"},
                ],
            ),
            (
                [RESULT | {"output": [{"type": "input_text", "text": "a map"}, PICTURE]}, RESULT | {"call_id": "c2"}],
                [
                    {"role": "tool", "tool_call_id": "c1", "content": "a map"},
                    {"role": "tool", "tool_call_id": "c2", "content": "seen"},
                    {"role": "user", "content": [SHOWN]},
                ],
            ),
            ([USER, THOUGHT, USER], [USER, USER]),
            ([SAID, SAID], [{"role": "assistant", "content": "so"}] * 2),
            (
                [{"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "in short"}]}, SAID],
                [{"role": "assistant", "content": "so", "reasoning_content": "in short"}],
            ),
            (
                [{"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}],
                [{"role": "assistant", "content": "no"}],
            ),
        ],
    )  # fmt: skip
    def test_items_are_messages(self, given: list[Json], expected: list[Json]) -> None:
        assert fields_of(input=given)["messages"] == expected

    def test_instructions_come_first(self) -> None:
        assert fields_of(instructions="s")["messages"] == [{"role": "system", "content": "s"}, USER]


MISTAKES: dict[str, tuple[Json, str]] = {
    "no model": ({"model": None}, "model"),
    "no input": ({"input": None}, "input"),
    "two things to continue": (
        {"previous_response_id": "resp_1", "conversation": "conv_1"}, "previous_response_id",
    ),
    "a conversation without an id": ({"conversation": {}}, "conversation.id"),
    "17 pairs of metadata": ({"metadata": {str(n): "" for n in range(17)}}, "metadata"),
    "an item that is no object": ({"input": ["hi"]}, "input[0]"),
    "an item without type and role": ({"input": [{"content": "x"}]}, "input[0].type"),
    "a reference": ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0].type"),
    "a tool's own item": ({"input": [USER, {"type": "web_search_call", "id": "ws_1"}]}, "input[1].type"),
    "unknown role": ({"input": [{"role": "bot", "content": "x"}]}, "input[0].role"),
    "a file": (
        {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]}, "input[0].content[0].type",
    ),
    "an uploaded image": (
        {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]},
        "input[0].content[0].image_url",
    ),
    "an image on the engine's disk": (
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "file:///etc/x.png"}]}]},
        "input[0].content[0].image_url",
    ),
    "an image on the engine's disk as a result": (
        {"input": [{"type": "function_call_output", "call_id": "c", "output": [
            {"type": "input_image", "image_url": "/etc/x.png"}]}]},
        "input[0].output[0].image_url",
    ),
    "a result without its call": ({"input": [{"type": "function_call_output", "output": "x"}]}, "input[0].call_id"),
    "a limit of zero": ({"max_output_tokens": 0}, "max_output_tokens"),
    "temperature as text": ({"temperature": "1"}, "temperature"),
    "21 log probabilities": ({"top_logprobs": 21}, "top_logprobs"),
    "a built-in tool": ({"tools": [{"type": "file_search", "vector_store_ids": []}]}, "tools[0].type"),
    "an MCP server": ({"tools": [TOOL, {"type": "mcp", "server_label": "x"}]}, "tools[1].type"),
    "a custom tool": ({"tools": [{"type": "custom", "name": "x"}]}, "tools[0].type"),
    "a tool without a name": ({"tools": [{"type": "function"}]}, "tools[0].name"),
    "a schema that is none": ({"tools": [TOOL | {"parameters": {"type": "thing"}}]}, "tools[0].parameters.type"),
    "two tools of one name": ({"tools": [TOOL, TOOL]}, "tools[1].name"),
    "an output that no schema describes": (
        {"text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "thing"}}}},
        "text.format.schema.type",
    ),
    "a choice without tools": ({"tool_choice": "required"}, "tool_choice"),
    "a choice of a built-in tool": ({"tools": [TOOL], "tool_choice": {"type": "file_search"}}, "tool_choice.type"),
    "a choice of no tool": ({"tools": [TOOL], "tool_choice": {"type": "function", "name": "x"}}, "tool_choice.name"),
    "allowed without a mode": (
        {"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "tools": []}}, "tool_choice.mode",
    ),
    "allowed, but not there": (
        {"tools": [TOOL], "tool_choice": {
            "type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "x"}]}},
        "tool_choice.tools[0].name",
    ),
    "unknown format": ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
    "a schema without a name": ({"text": {"format": {"type": "json_schema", "schema": {}}}}, "text.format.name"),
    "unknown effort": ({"reasoning": {"effort": "some"}}, "reasoning.effort"),
    "metadata of numbers": ({"metadata": {"a": 1}}, "metadata.a"),
}  # fmt: skip


@pytest.mark.parametrize(("given", "param"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_names_its_field(given: Json, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        fields_of(**given)
    assert caught.value.param == param
    assert to_wire(caught.value).status == 400


def test_the_answer_repeats_what_was_asked() -> None:
    given: Json = {
        "instructions": "s", "max_output_tokens": 5, "max_tool_calls": 2, "metadata": {"a": "b"},
        "parallel_tool_calls": False, "prompt_cache_key": "k", "safety_identifier": "i", "temperature": 0,
        "text": {"format": {"type": "json_object"}}, "tool_choice": "none", "tools": [TOOL], "top_logprobs": 1,
        "top_p": 0.5, "user": "u",
    }  # fmt: skip
    repeated = parse_responses(body_of(**given, reasoning={"effort": "low"}, store=True)).repeated
    assert repeated == given | {
        "background": False, "conversation": None, "previous_response_id": None, "prompt": None,
        "reasoning": {"effort": "low", "summary": None}, "service_tier": "default", "store": True,
        "truncation": "disabled",
    }  # fmt: skip
    more: Json = {"store": False, "truncation": "auto", "conversation": "conv_1"}
    assert parse_responses(body_of(**more)).repeated.items() >= (more | {"conversation": {"id": "conv_1"}}).items()
    following = parse_responses(body_of(previous_response_id="resp_1", conversation=""))
    assert following.repeated["previous_response_id"] == following.previous == "resp_1"
    assert following.repeated["conversation"] is following.conversation is None


REQUEST = GenerationRequest(kind="chat", model="m", fields={}, stream=True)


def test_text_that_is_relayed_unparsed_is_part_of_the_whole_all_the_same() -> None:
    """Whatever comes between two texts: numbers, places and the response at the end are those of parsed text."""
    dialect = ResponsesDialect(parse_responses(body_of()).repeated, now=lambda: 5.0)
    relayed = StreamedAnswer(REQUEST, dialect.stream(REQUEST, rid="r", created=1))
    parsed = dialect.stream(REQUEST, rid="r", created=1)
    told, expected = b"", b""
    for name, value in (
        ("content", "a"), ("content", "b"), ("content", "c\u00fc\n"), ("reasoning_content", "hm"), ("content", "d"),
        ("content", "e"), ("content", 'f\n"g"'), ("content", "h"),
    ):  # fmt: skip
        event = {"choices": [{"index": 0, "delta": {name: value}, "finish_reason": None}]}
        told += relayed.feed(b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\n\n")
        expected += parsed.pieces([Piece(0, "text" if name == "content" else "reasoning", value, None)])
    finish: Any = [Piece(0, "finish", "stop", None)]
    told += relayed.feed(b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n') + relayed.end()
    expected += parsed.pieces(finish) + parsed.end(None)
    assert told == expected
    last = json.loads(told.split(b"data: ")[-1])["response"]
    assert [item["content"][0]["text"] for item in last["output"]] == ["abcü\n", "hm", 'def\n"g"h']


def test_text_that_is_no_json_string_does_not_keep_the_end_from_being_told() -> None:
    dialect = ResponsesDialect(parse_responses(body_of()).repeated, now=lambda: 5.0)
    relayed = StreamedAnswer(REQUEST, dialect.stream(REQUEST, rid="r", created=1))
    for text in (b"a", b"b", b"c\\x", b"d"):
        relayed.feed(b'data: {"choices":[{"index":0,"delta":{"content":"%s"},"finish_reason":null}]}\n\n' % text)
    last = json.loads(relayed.error(to_wire(InvalidRequest("no"))).split(b"data: ")[-1])["response"]
    assert (last["status"], last["output"][0]["content"][0]["text"]) == ("failed", "abc\\xd")
