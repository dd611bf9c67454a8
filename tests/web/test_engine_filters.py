"""What makes up for an engine's other words: calls read from constrained text, log probabilities, one call at most."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from web.dialects.engines import engine_call
from web.dialects.forced_tools import CallReader, OneCall, call_schema
from web.dialects.logprobs import LogprobsOf, OffsetsOf
from web.dialects.openai import parse_chat
from web.dialects.openai_answer import OpenAIStream
from web.dialects.pieces import Piece
from web.dialects.translation import StreamedAnswer

Json = dict[str, Any]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
BEFORE = ["", "```json\n", " \n "]


def text(choice: int, said: str) -> Piece:
    return Piece(choice, "text", said, None)


def finish(choice: int, reason: str) -> Piece:
    return Piece(choice, "finish", reason, None)


def collected(pieces: list[Piece]) -> tuple[list[Json], str, str | None]:
    """The openings, the arguments together, and why it ended."""
    tools = [piece.value for piece in pieces if piece.kind == "tool"]
    openings = [value for value in tools if "id" in value]
    arguments = "".join(value["function"]["arguments"] for value in tools)
    ends = [piece.value for piece in pieces if piece.kind == "finish"]
    return openings, arguments, ends[-1] if ends else None


class TestReadingACall:
    @given(
        arguments=st.dictionaries(st.text(), JSON, max_size=3), indent=st.sampled_from([None, 2]),
        ascii_only=st.booleans(), before=st.sampled_from(BEFORE), after=st.sampled_from(["", "\n", "\n```"]),
        data=st.data(),
    )  # fmt: skip
    def test_however_it_is_cut_and_spaced_it_is_the_same_call(
        self, arguments: Json, indent: int | None, ascii_only: bool, before: str, after: str, data: Any
    ) -> None:
        written = json.dumps({"name": "a.b-c_1", "arguments": arguments}, indent=indent, ensure_ascii=ascii_only)
        said = before + written + after
        cuts = sorted(data.draw(st.lists(st.integers(0, len(said)), max_size=8)))
        parts = [said[start:end] for start, end in zip([0, *cuts], [*cuts, len(said)], strict=True)]
        reader = CallReader("0" * 32)
        pieces = [piece for part in parts for piece in reader([text(0, part)])] + reader([finish(0, "stop")])
        (opening,), told, reason = collected(pieces)
        assert opening["function"] == {"name": "a.b-c_1", "arguments": ""}
        assert json.loads(told) == arguments
        assert reason == "tool_calls"
        assert not any(piece.kind == "text" for piece in pieces)

    def test_arguments_come_as_they_are_written(self) -> None:
        reader = CallReader("0" * 32)
        reader([text(0, '{"name": "f", "arguments": ')])
        (opening, first) = reader([text(0, '{"a')])
        (second,) = reader([text(0, '": 1')])
        assert opening.value["function"]["name"] == "f"
        assert [piece.value["function"]["arguments"] for piece in (first, second)] == ['{"a', '":1']

    def test_choices_are_read_apart_and_have_ids_of_their_own(self) -> None:
        reader = CallReader("0123456789abcdef" * 2)
        pieces = reader([text(0, '{"name":"f","arg'), text(1, '{"name":"g","arguments":{}}')])
        pieces += reader([text(0, 'uments":{}}')])
        names = {piece.choice: piece.value for piece in pieces if piece.kind == "tool" and "id" in piece.value}
        assert [names[index]["function"]["name"] for index in (0, 1)] == ["f", "g"]
        assert names[0]["id"] != names[1]["id"]

    @pytest.mark.parametrize(("said", "reason"), [('{"name":"f","arguments":{"a', "length"), ('{"na', "length")])
    def test_one_that_is_cut_keeps_its_reason(self, said: str, reason: str) -> None:
        reader = CallReader("0" * 32)
        pieces = reader([text(0, said)]) + reader([finish(0, reason)])
        assert collected(pieces)[2] == reason

    def test_one_that_a_stop_string_cut_is_no_call_that_can_be_made(self) -> None:
        reader = CallReader("0" * 32)
        pieces = reader([text(0, '{"name":"f","arguments":{"a')]) + reader([finish(0, "stop")])
        assert collected(pieces)[2] == "stop"

    def test_thoughts_pass(self) -> None:
        thought = Piece(0, "reasoning", "hm", None)
        assert CallReader("0" * 32)([thought]) == [thought]


def test_a_schema_s_references_to_itself_still_hold_inside_the_call_s() -> None:
    parameters = {
        "type": "object", "properties": {"a": {"$ref": "#/$defs/x"}, "self": {"$ref": "#"}},
        "$defs": {"x": {"enum": ["$ref"]}},
    }  # fmt: skip
    schema = call_schema([{"function": {"name": "f", "parameters": parameters}}, {"function": {"name": "g"}}])
    moved = schema["$defs"]["arguments_0"]
    assert moved["properties"]["a"]["$ref"] == "#/$defs/arguments_0/$defs/x"
    assert moved["properties"]["self"]["$ref"] == "#/$defs/arguments_0"
    assert schema["$defs"]["arguments_1"] == {"type": "object"}
    assert [form["properties"]["name"]["const"] for form in schema["anyOf"]] == ["f", "g"]


def test_of_several_calls_the_first_is_told_whatever_its_index() -> None:
    def call(choice: int, index: int) -> Piece:
        return Piece(choice, "tool", {"index": index, "function": {"arguments": ""}}, None)

    keep = OneCall()
    assert keep([call(0, 1), call(0, 2), text(0, "x")]) == [call(0, 1), text(0, "x")]
    assert keep([call(0, 1), call(1, 0), call(0, 0)]) == [call(0, 1), call(1, 0)]


def entry(token: str, *likely: str) -> Json:
    told = {"id": 5, "token": token, "bytes": list(token.encode()), "logprob": -1.0}
    return told | {"top_logprobs": [{**told, "token": other} for other in likely]}


def with_logprobs(*entries: Json) -> Piece:
    return Piece(0, "text", "".join(each["token"] for each in entries), {"content": list(entries)})


@pytest.mark.parametrize("top", [0, 1])
def test_a_chat_is_told_as_many_likely_tokens_as_it_asked_for_and_no_ids(top: int) -> None:
    (piece,) = LogprobsOf("chat", top=top)([with_logprobs(entry("a", "a", "b"))])
    plain = {"token": "a", "logprob": -1.0, "bytes": [97]}
    assert piece.logprobs == {"content": [plain | {"top_logprobs": [plain][:top]}], "refusal": None}


def test_a_completion_is_told_in_the_older_shape_with_offsets_that_go_on() -> None:
    convert = LogprobsOf("text", top=2)
    convert([with_logprobs(entry("ab", "x"))])
    (piece,) = convert([with_logprobs(entry("c", "c", "d"), entry("☃"))])
    assert piece.logprobs == {
        "tokens": ["c", "☃"], "token_logprobs": [-1.0, -1.0], "text_offset": [2, 3],
        "top_logprobs": [{"c": -1.0, "d": -1.0}, {}],
    }  # fmt: skip


def test_a_completions_tokens_have_offsets_where_the_engine_tells_none() -> None:
    def told(choice: int, said: str, *tokens: str) -> Piece:
        return Piece(choice, "text", said, {"tokens": list(tokens), "text_offset": [-1] * len(tokens)})

    convert = OffsetsOf()
    pieces = [told(0, "ab c", "ab", " c"), told(1, "x", "x"), text(0, "unseen"), told(0, "d", "d"), told(0, "")]
    offsets = [piece.logprobs and piece.logprobs["text_offset"] for piece in convert(pieces)]
    assert offsets == [[0, 2], [0], None, [10], []]


def event(said: str) -> bytes:
    return b"data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": said}}]}).encode() + b"\n\n"


def test_what_must_be_filtered_is_never_relayed_unparsed() -> None:
    tool = {"type": "function", "function": {"name": "f"}}
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "tools": [tool], "tool_choice": "required"}
    request = parse_chat(json.dumps(body).encode())
    answer = StreamedAnswer(request, OpenAIStream(request, answer_id="a", created=1))
    answer.filter = engine_call(request, kind="llamacpp", model="m", rid="r" * 32).filter
    told = b"".join(answer.feed(event(said)) for said in ["{", '"name": "f"', ", ", '"arguments": ', "{", "  ", "}"])
    assert b'"content":"{"' not in told
    chunks = [json.loads(line[6:]) for line in told.decode().split("\n\n") if line]
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert [call["function"]["arguments"] for delta in deltas for call in delta.get("tool_calls", [])] == ["", "{", "}"]


@pytest.mark.parametrize("kind", ["sglang", "llamacpp", "scripted"])
def test_a_plain_chat_needs_no_filter(kind: Any) -> None:
    request = parse_chat(b'{"model":"m","messages":[{"role":"user","content":"x"}]}')
    assert engine_call(request, kind=kind, model="m", rid="r").filter is None


FORCED: Json = {
    "model": "m", "messages": [{"role": "user", "content": "x"}],
    "tools": [{"type": "function", "function": {"name": name, "strict": True}} for name in ("f", "g")],
}  # fmt: skip


@pytest.mark.parametrize(("kind", "told_choice"), [("sglang", "auto"), ("llamacpp", "none")])
@pytest.mark.parametrize(("choice", "callable_tools"), [("required", ["f", "g"]), ("g", ["g"])])
def test_an_engine_is_held_to_one_call_of_the_tools_that_may_be_called(
    kind: Any, told_choice: str, choice: str, callable_tools: list[str]
) -> None:
    """By a schema of the answer: the engines' own ways to force a call have gaps. The model sees all of the tools."""
    wanted: Any = choice if choice == "required" else {"type": "function", "function": {"name": choice}}
    request = parse_chat(json.dumps(FORCED | {"tool_choice": wanted}).encode())
    told = json.loads(engine_call(request, kind=kind, model="m", rid="r").body)
    assert told["tool_choice"] == told_choice
    assert [tool["function"] for tool in told["tools"]] == [{"name": "f"}, {"name": "g"}]
    forms = told["response_format"]["json_schema"]["schema"]["anyOf"]
    assert [form["properties"]["name"]["const"] for form in forms] == callable_tools


def test_a_call_that_the_engine_tells_by_itself_passes() -> None:
    opening = Piece(0, "tool", {"index": 0, "id": "c", "function": {"name": "f", "arguments": ""}}, None)
    assert CallReader("r" * 32)([opening, finish(0, "tool_calls")]) == [opening, finish(0, "tool_calls")]
