"""Anthropic's requests as tables: what each means to an engine."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, get_type_hints

import pytest
from anthropic.types import message_count_tokens_params, message_create_params
from anthropic.types.beta import message_create_params as beta_params

from tests.web.conftest import MODEL
from web.dialects.anthropic import error_body, parse_count, parse_messages
from web.dialects.anthropic_schema import HONOURED, IGNORED, REFUSED, MessagesRequest
from web.dialects.engines import engine_call
from web.errors import InvalidRequest, to_wire

if TYPE_CHECKING:
    from infra.settings import EngineKind

Json = dict[str, Any]

USER = {"role": "user", "content": "hi"}
TOOL = {"name": "look", "input_schema": {"type": "object"}}
LOOK = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
THINK = {"enable_thinking": True, "thinking": True}
DO_NOT = {"enable_thinking": False, "thinking": False}
PICTURE = {"type": "base64", "media_type": "image/png", "data": "AA=="}


def body_of(**more: Any) -> bytes:
    return json.dumps({"model": MODEL, "max_tokens": 9, "messages": [USER], **more}).encode()


def fields_of(**more: Any) -> Json:
    return dict(parse_messages(body_of(**more)).request.fields)


def text(value: str) -> Json:
    return {"type": "text", "text": value}


class TestFields:
    def test_every_field_of_the_sdk_is_honoured_ignored_or_refused(self) -> None:
        known = HONOURED.keys() | IGNORED.keys() | REFUSED.keys()
        for params in (message_create_params, beta_params):
            asked = get_type_hints(params.MessageCreateParamsNonStreaming, vars(params))
            assert asked.keys() <= known
        counted = get_type_hints(
            message_count_tokens_params.MessageCountTokensParams, vars(message_count_tokens_params)
        )
        assert counted.keys() <= known

    def test_no_field_is_two_of_them(self) -> None:
        assert len(HONOURED.keys() | IGNORED.keys() | REFUSED.keys()) == len(HONOURED) + len(IGNORED) + len(REFUSED)

    def test_what_is_honoured_is_what_is_checked(self) -> None:
        assert set(MessagesRequest.model_fields) == HONOURED.keys()

    @pytest.mark.parametrize("name", REFUSED)
    def test_what_is_refused_is_named(self, name: str) -> None:
        for parse in (parse_messages, parse_count):
            with pytest.raises(InvalidRequest) as caught:
                parse(body_of(**{name: {"type": "x"}}))
            assert caught.value.param == name
            assert f"'{name}'" in caught.value.message

    def test_what_is_ignored_reaches_no_engine(self) -> None:
        fields = fields_of(**dict.fromkeys(IGNORED, "x"), what="ever", messages=[{"role": "user", "content": [
            text("hi") | {"cache_control": {"type": "ephemeral"}, "citations": []}]}])  # fmt: skip
        assert fields == fields_of()

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ({}, {}),
            ({"temperature": 0, "top_p": 0.5, "top_k": 3}, {"temperature": 0, "top_p": 0.5, "top_k": 3}),
            ({"top_k": 0}, {}),
            ({"stop_sequences": list("abcdef")}, {"stop": list("abcdef")}),
            ({"stop_sequences": []}, {}),
            ({"stop_sequences": None, "system": None, "tools": None, "thinking": None, "metadata": None}, {}),
            ({"tools": [TOOL]}, {"tools": [LOOK]}),
            ({"tools": [TOOL | {"type": "custom"}]}, {"tools": [LOOK]}),
            ({"tools": [], "tool_choice": {"type": "auto"}}, {}),
            ({"tools": [TOOL], "tool_choice": {"type": "auto"}}, {"tools": [LOOK], "tool_choice": "auto"}),
            ({"tools": [TOOL], "tool_choice": {"type": "any"}}, {"tools": [LOOK], "tool_choice": "required"}),
            ({"tools": [TOOL], "tool_choice": {"type": "none"}}, {"tools": [LOOK], "tool_choice": "none"}),
            (
                {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "look"}},
                {"tools": [LOOK], "tool_choice": {"type": "function", "function": {"name": "look"}}},
            ),
            (
                {"tools": [TOOL], "tool_choice": {"type": "any", "disable_parallel_tool_use": True}},
                {"tools": [LOOK], "tool_choice": "required", "parallel_tool_calls": False},
            ),
            ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, {"chat_template_kwargs": THINK}),
            ({"thinking": {"type": "disabled"}}, {"chat_template_kwargs": DO_NOT}),
            ({"thinking": {"type": "adaptive"}}, {}),
            ({"output_config": {"effort": "xhigh"}}, {"reasoning_effort": "xhigh"}),
            (
                {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}},
                {"response_format": {"type": "json_schema", "json_schema": {
                    "name": "answer", "schema": {"type": "object"}, "strict": True}}},
            ),
        ],
    )  # fmt: skip
    def test_what_the_engine_is_told(self, given: Json, expected: Json) -> None:
        assert fields_of(**given) == {"messages": [USER], "max_tokens": 9} | expected

    def test_a_tool_keeps_its_description_and_strictness(self) -> None:
        (tool,) = fields_of(tools=[TOOL | {"description": "sees", "strict": True}])["tools"]
        assert tool["function"] == LOOK["function"] | {"description": "sees", "strict": True}

    def test_a_user_meets_the_same_engine_again(self) -> None:
        assert parse_messages(body_of(metadata={"user_id": "u1"})).request.affinity == "u1"
        assert parse_messages(body_of(metadata={"user_id": None})).request.affinity is None

    def test_thoughts_are_hidden_on_request(self) -> None:
        thinking = {"type": "enabled", "budget_tokens": 1024, "display": "omitted"}
        assert parse_messages(body_of(thinking=thinking)).hide_thinking
        assert not parse_messages(body_of(thinking=thinking | {"display": "summarized"})).hide_thinking

    def test_a_count_needs_no_limit(self) -> None:
        body = json.dumps({"model": MODEL, "messages": [USER], "system": "s", "tools": [TOOL]}).encode()
        assert parse_count(body).fields == {
            "messages": [{"role": "system", "content": "s"}, USER], "tools": [LOOK],
        }  # fmt: skip


class TestMessages:
    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ([{"role": "user", "content": [text("a"), text("b")]}], [{"role": "user", "content": "a\nb"}]),
            (
                [{"role": "user", "content": [text("see"), {"type": "image", "source": PICTURE}]}],
                [{"role": "user", "content": [
                    text("see"), {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]}],
            ),
            (
                [{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "https://x/y.png"}}]}],
                [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}]}],
            ),
            (
                [{"role": "user", "content": [
                    {"type": "document", "title": "T", "source": {"type": "text", "data": "D"}},
                    {"type": "search_result", "title": "R", "source": "https://r", "content": [text("found")]},
                    text("?")]}],
                [{"role": "user", "content": "T\nD\nR\nhttps://r\nfound\n?"}],
            ),
            (
                [USER, {"role": "assistant", "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "s"},
                    {"type": "redacted_thinking", "data": "x"},
                    text("so"), {"type": "tool_use", "id": "t1", "name": "look", "input": {"at": 1}}]}],
                [USER, {"role": "assistant", "content": "so", "reasoning_content": "hm", "tool_calls": [
                    {"id": "t1", "type": "function", "function": {"name": "look", "arguments": '{"at":1}'}}]}],
            ),
            (
                [USER, {"role": "assistant", "content": [
                    {"type": "tool_use", "id": "t1", "name": "look", "input": {}}]}],
                [USER, {"role": "assistant", "content": None, "tool_calls": [
                    {"id": "t1", "type": "function", "function": {"name": "look", "arguments": "{}"}}]}],
            ),
            (
                [{"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "t1", "content": "rain"},
                    {"type": "tool_result", "tool_use_id": "t2", "content": [text("a"), text("b")]},
                    {"type": "tool_result", "tool_use_id": "t3"},
                    {"type": "tool_result", "tool_use_id": "t4", "content": "no such city", "is_error": True},
                    text("and now?")]}],
                [
                    {"role": "tool", "tool_call_id": "t1", "content": "rain"},
                    {"role": "tool", "tool_call_id": "t2", "content": "a\nb"},
                    {"role": "tool", "tool_call_id": "t3", "content": ""},
                    {"role": "tool", "tool_call_id": "t4", "content": "Error:\nno such city"},
                    {"role": "user", "content": "and now?"},
                ],
            ),
            (
                [{"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "t1", "content": [
                        text("a map"), {"type": "image", "source": PICTURE}]}]}],
                [
                    {"role": "tool", "tool_call_id": "t1", "content": "a map"},
                    {"role": "user", "content": [
                        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]},
                ],
            ),
            (
                [USER, {"role": "system", "content": [text("be brief")]}, USER],
                [USER, {"role": "system", "content": "be brief"}, USER],
            ),
        ],
    )  # fmt: skip
    def test_messages_in_openais_words(self, given: list[Json], expected: list[Json]) -> None:
        assert fields_of(messages=given)["messages"] == expected

    @pytest.mark.parametrize("system", ["a\nb", [text("a"), text("b") | {"cache_control": {"type": "ephemeral"}}]])
    def test_the_system_comes_first(self, system: Any) -> None:
        assert fields_of(system=system)["messages"] == [{"role": "system", "content": "a\nb"}, USER]

    def test_every_engine_is_told_to_continue_in_its_own_words(self) -> None:
        call = parse_messages(body_of(messages=[USER, {"role": "assistant", "content": "The best is ("}]))
        kinds: tuple[EngineKind, ...] = ("sglang", "llamacpp")
        told = {kind: json.loads(engine_call(call.request, kind=kind, model="m", rid="r").body) for kind in kinds}
        assert all(body["continue_final_message"] is True for body in told.values())
        assert "add_generation_prompt" not in told["sglang"]
        assert told["llamacpp"]["add_generation_prompt"] is False

    def test_an_answer_that_was_begun_is_continued_without_thinking(self) -> None:
        fields = fields_of(messages=[USER, {"role": "assistant", "content": "The best is ("}])
        assert fields["continue_final_message"] is True
        assert fields["chat_template_kwargs"] == DO_NOT
        with pytest.raises(InvalidRequest):
            fields_of(
                messages=[USER, {"role": "assistant", "content": "x"}],
                thinking={"type": "enabled", "budget_tokens": 1024},
            )


MISTAKES: dict[str, tuple[Json, str]] = {
    "no limit": ({"max_tokens": None}, "max_tokens"),
    "a limit of zero": ({"max_tokens": 0}, "max_tokens"),
    "no messages": ({"messages": []}, "messages"),
    "unknown role": ({"messages": [{"role": "bot", "content": "x"}]}, "messages[0].role"),
    "no content": ({"messages": [{"role": "user"}]}, "messages[0].content"),
    "unknown block": ({"messages": [{"role": "user", "content": [{"type": "smell"}]}]}, "messages[0].content[0].type"),
    "what servers' tools said": (
        {"messages": [{"role": "assistant", "content": [{"type": "server_tool_use", "id": "x"}]}]},
        "messages[0].content[0].type",
    ),
    "a PDF": (
        {"messages": [{"role": "user", "content": [
            {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "A"}}]}]},
        "messages[0].content[0].source.type",
    ),
    "an uploaded image": (
        {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "file", "file_id": "f"}}]}]},
        "messages[0].content[0].source.type",
    ),
    "an image on the engine's disk": (
        {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "/etc/x"}}]}]},
        "messages[0].content[0].source.url",
    ),
    "a user who calls": (
        {"messages": [{"role": "user", "content": [{"type": "tool_use", "id": "x", "name": "n", "input": {}}]}]},
        "messages[0].content[0].type",
    ),
    "input that is no object": (
        {"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "x", "name": "n", "input": "{}"}]}]},
        "messages[0].content[0].input",
    ),
    "tool without a schema": ({"tools": [{"name": "f"}]}, "tools[0].input_schema"),
    "a schema that is none": (
        {"tools": [{"name": "f", "input_schema": {"type": "object", "properties": {"at": {"type": "int"}}}}]},
        "tools[0].input_schema.properties.at.type",
    ),
    "two tools of one name": ({"tools": [TOOL, TOOL]}, "tools[1].name"),
    "an output that no schema describes": (
        {"output_config": {"format": {"type": "json_schema", "schema": {"type": "thing"}}}},
        "output_config.format.schema.type",
    ),
    "a server's tool": ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
    "a choice without tools": ({"tool_choice": {"type": "any"}}, "tool_choice"),
    "a tool that is not there": ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "g"}}, "tool_choice.name"),
    "unknown choice": ({"tools": [TOOL], "tool_choice": {"type": "some"}}, "tool_choice.type"),
    "a small budget": ({"thinking": {"type": "enabled", "budget_tokens": 5}}, "thinking.budget_tokens"),
    "no budget": ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
    "unknown thinking": ({"thinking": {"type": "between_tools"}}, "thinking.type"),
    "an empty stop": ({"stop_sequences": [""]}, "stop_sequences[0]"),
    "stops as text": ({"stop_sequences": "x"}, "stop_sequences"),
    "temperature as text": ({"temperature": "1"}, "temperature"),
}  # fmt: skip


@pytest.mark.parametrize(("given", "param"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_names_its_field(given: Json, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        fields_of(**given)
    assert caught.value.param == param
    wire = to_wire(caught.value)
    assert wire.status == 400
    assert param in json.loads(error_body(wire, request_id=None))["error"]["message"]
