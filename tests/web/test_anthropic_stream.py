"""Anthropic's answers: what an engine's pieces are to the caller, as a stream and whole."""

from __future__ import annotations

import json
from typing import Any

from web.dialects.anthropic_answer import AnthropicDialect, signature_of
from web.dialects.pieces import Piece, Usage
from web.dialects.request import GenerationRequest
from web.dialects.translation import StreamedAnswer
from web.errors import InvalidRequest, to_wire

Json = dict[str, Any]

REQUEST = GenerationRequest(kind="chat", model="m", fields={}, stream=True)


def events(data: bytes) -> list[Json]:
    found = []
    for event in data.decode().split("\n\n")[:-1]:
        name, payload = event.split("\n")
        told = json.loads(payload.removeprefix("data: "))
        assert name == f"event: {told['type']}"
        found.append(told)
    return found


def say(kind: Any, value: Any) -> Piece:
    return Piece(0, kind, value, None)


def call(index: int, **function: str) -> Piece:
    opening = {"id": f"c{index}", "type": "function"} if "name" in function else {}
    return say("tool", {"index": index, **opening, "function": {"arguments": "", **function}})


PIECES = [
    say("reasoning", "hm"), say("text", "a"), say("text", "b"), call(0, name="look"), call(0, arguments='{"at"'),
    call(0, arguments=":1}"), call(1, name="look"), say("text", "c"), say("finish", "tool_calls"),
]  # fmt: skip


class TestStream:
    def test_blocks_open_one_after_another(self) -> None:
        stream = AnthropicDialect().stream(REQUEST, rid="r", created=1)
        told = events(stream.pieces(PIECES) + stream.end(Usage(9, 5, 4, 2)))
        shape = [(event["type"].removeprefix("content_block_"), event.get("index")) for event in told]
        assert shape == [
            ("message_start", None),
            ("start", 0), ("delta", 0), ("delta", 0), ("stop", 0),
            ("start", 1), ("delta", 1), ("delta", 1), ("stop", 1),
            ("start", 2), ("delta", 2), ("delta", 2), ("stop", 2),
            ("start", 3), ("stop", 3),
            ("start", 4), ("delta", 4), ("stop", 4),
            ("message_delta", None), ("message_stop", None),
        ]  # fmt: skip
        assert told[0]["message"] == {
            "id": "msg_r", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": 0, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
                      "output_tokens": 0},
        }  # fmt: skip
        assert [event["delta"] for event in told if event["type"] == "content_block_delta"] == [
            {"type": "thinking_delta", "thinking": "hm"},
            {"type": "signature_delta", "signature": signature_of("hm")},
            {"type": "text_delta", "text": "a"}, {"type": "text_delta", "text": "b"},
            {"type": "input_json_delta", "partial_json": '{"at"'}, {"type": "input_json_delta", "partial_json": ":1}"},
            {"type": "text_delta", "text": "c"},
        ]  # fmt: skip
        assert told[-2] == {
            "type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": None},
            "usage": {"input_tokens": 5, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 4,
                      "output_tokens": 5, "output_tokens_details": {"thinking_tokens": 2}},
        }  # fmt: skip

    def test_nothing_is_said_before_the_engine_says_something(self) -> None:
        assert AnthropicDialect().stream(REQUEST, rid="r", created=1).pieces([]) == b""

    def test_hidden_thoughts_leave_an_empty_block(self) -> None:
        dialect = AnthropicDialect(hide_thinking=True)
        stream = dialect.stream(REQUEST, rid="r", created=1)
        told = events(stream.pieces(PIECES[:2]))
        assert [event["type"] for event in told[1:5]] == [
            "content_block_start", "content_block_delta", "content_block_stop", "content_block_start",
        ]  # fmt: skip
        assert told[2]["delta"] == {"type": "signature_delta", "signature": signature_of("hm")}
        answer = dialect.answer(REQUEST, rid="r", created=1)
        answer.add(PIECES[:2])
        assert json.loads(answer.body(None))["content"][0] == {
            "type": "thinking", "thinking": "", "signature": signature_of("hm"),
        }  # fmt: skip

    def test_an_error_is_an_event_that_names_the_request(self) -> None:
        stream = AnthropicDialect(request_id="req_1").stream(REQUEST, rid="r", created=1)
        (told,) = events(stream.error(to_wire(InvalidRequest("no"))))
        error = {"type": "invalid_request_error", "message": "no"}
        assert told == {"type": "error", "error": error, "request_id": "req_1"}

    def test_a_stop_after_calls_is_a_tool_use(self) -> None:
        stream = AnthropicDialect().stream(REQUEST, rid="r", created=1)
        stream.pieces([call(0, name="look"), say("finish", "stop")])
        assert events(stream.end(None))[0]["delta"]["stop_reason"] == "tool_use"

    def test_input_may_hold_numbers_of_any_size(self) -> None:
        for reason in ("tool_calls", "length"):
            answer = AnthropicDialect().answer(REQUEST, rid="r", created=1)
            answer.add([call(0, name="look"), call(0, arguments=json.dumps({"at": 10**30})), say("finish", reason)])
            assert json.loads(answer.body(None))["content"][0]["input"] == {"at": 10**30}

    def test_input_that_was_cut_is_told_as_far_as_it_came(self) -> None:
        answer = AnthropicDialect().answer(REQUEST, rid="r", created=1)
        answer.add([call(0, name="look"), call(0, arguments='{"at": 1, "to": "Os'), say("finish", "length")])
        told = json.loads(answer.body(None))
        assert told["stop_reason"] == "max_tokens"
        assert told["content"][0]["input"] == {"at": 1}

    def test_text_that_is_relayed_unparsed_lands_in_the_block_that_is_open(self) -> None:
        """Whatever comes between two texts, what is around them is not stale."""
        relayed = StreamedAnswer(REQUEST, AnthropicDialect().stream(REQUEST, rid="r", created=1))
        parsed = AnthropicDialect().stream(REQUEST, rid="r", created=1)
        told, expected = b"", b""
        for delta in (
            {"content": "a"}, {"content": "b"}, {"content": "c"}, {"reasoning_content": "hm"}, {"content": "d"},
            {"content": "e"}, {"content": "f\n\"g\""}, {"content": "h"},
        ):  # fmt: skip
            event = {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
            told += relayed.feed(b"data: " + json.dumps(event).encode() + b"\n\n")
            ((name, value),) = delta.items()
            expected += parsed.pieces([say("text" if name == "content" else "reasoning", value)])
        assert told == expected
        deltas = [event for event in events(told) if event["type"] == "content_block_delta"]
        assert [(event["index"], event["delta"]["text"]) for event in deltas if event["index"] != 1] == [
            (0, "a"), (0, "b"), (0, "c"), (2, "d"), (2, "e"), (2, 'f\n"g"'), (2, "h"),
        ]  # fmt: skip
