"""A stream's very bytes: what each event is made of, in which order they come, and what keeps a silent one alive."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.conformance.targets import HEARTBEAT_SECONDS, needs
from tests.conformance.wire import Connection, chat

if TYPE_CHECKING:
    from tests.conformance.targets import Target
    from tests.conformance.wire import Event, Head

pytestmark = pytest.mark.slow

LONGEST_SILENCE = 15.0
LATENESS = 10.0
"""Of a busy machine. That something comes before and between the tokens is looked at by itself."""
"""Seconds that a busy machine may be late."""
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}


def stream(target: Target, body: Any, path: str = "/v1/chat/completions", **headers: str) -> tuple[Head, list[Event]]:
    with Connection(target) as connection:
        head = connection.ask(body, path, **headers)
        assert head.status == 200, connection.body(head)
        return head, list(connection.events())


def spoken(target: Target, body: Any, path: str = "/v1/chat/completions") -> list[Any]:
    return [event.data for event in stream(target, body, path)[1] if not event.is_comment]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_every_event_is_one_data_line_and_nothing_else(target: Target, path: str) -> None:
    """No `id:`, no `retry:`, no `event:`, no empty data: each of them breaks a client."""
    body = chat(target, {"text": "a\nb\r\nc\u2028d 世界", "reasoning": "so\nso"}) | {"prompt": "one"}
    _, events = stream(target, body, path)
    for event in events:
        assert b"\n" not in event.raw, event.raw
        assert b"\r" not in event.raw, event.raw
        assert event.is_comment or event.raw.startswith((b"data: {", b"data: [DONE]")), event.raw
    assert events[-1].raw == b"data: [DONE]"
    assert sum(event.raw == b"data: [DONE]" for event in events) == 1


def test_a_chat_stream_comes_in_the_order_of_openais(target: Target) -> None:
    needs(target, "scripted")
    calls = [{"name": "look", "arguments": '{"at": 1}'}, {"name": "look", "arguments": "{}"}]
    script = {"reasoning": "hm", "text": "a b", "tool_calls": calls}
    *events, usage, done = spoken(target, chat(target, script, tools=[TOOL], stream_options={"include_usage": True}))
    choices = [event["choices"][0] for event in events]
    deltas = [choice["delta"] for choice in choices]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert [delta for delta in deltas[1:] if "tool_calls" not in delta] == [
        {"reasoning_content": "hm"}, {"content": "a "}, {"content": "b"}, {},
    ]  # fmt: skip
    pieces = [piece for delta in deltas for piece in delta.get("tool_calls", [])]
    assert all(isinstance(piece["index"], int) for piece in pieces)
    for index in (0, 1):
        opening, *rest = [piece for piece in pieces if piece["index"] == index]
        assert (opening["type"], set(opening)) == ("function", {"index", "id", "type", "function"})
        assert opening["function"] == {"name": "look", "arguments": ""}
        assert all(set(piece) == {"index", "function"} and set(piece["function"]) == {"arguments"} for piece in rest)
        assert "".join(piece["function"]["arguments"] for piece in rest) == calls[index]["arguments"]
    assert [choice["finish_reason"] for choice in choices] == [None] * (len(choices) - 1) + ["tool_calls"]
    assert all(event["usage"] is None for event in events)
    assert usage["choices"] == []
    assert usage["usage"]["prompt_tokens_details"]["cached_tokens"] >= 0
    assert done == "[DONE]"
    assert len({(event["id"], event["created"], event["model"], event["object"]) for event in [*events, usage]}) == 1


@pytest.mark.parametrize(("script", "reason"), [({"tokens": 2}, "stop"), ({"tokens": 99}, "length")])
def test_the_finish_reason_has_a_chunk_of_its_own(target: Target, script: Any, reason: str) -> None:
    needs(target, "scripted")
    *_, last, done = spoken(target, chat(target, script))
    assert (last["choices"][0]["delta"], last["choices"][0]["finish_reason"], done) == ({}, reason, "[DONE]")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/responses"])
def test_a_streams_headers_forbid_buffering_and_nothing_is_compressed(target: Target, path: str) -> None:
    if path == "/v1/messages":
        needs(target, "messages")
    if path == "/v1/responses":
        needs(target, "responses")
    body = chat(target, {"tokens": 20}) | {"prompt": "one"}
    if path == "/v1/responses":
        body = {"model": target.model, "input": "one", "stream": True, "store": False}
    with Connection(target) as connection:
        head = connection.ask(body, path, Accept_Encoding="gzip, br, zstd, deflate")
        assert head.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert head.headers["cache-control"] == "no-cache"
        assert head.headers["x-accel-buffering"] == "no"
        assert "content-encoding" not in head.headers
        assert b"data: " in connection.body(head)


def test_a_plain_answer_is_not_compressed_either(target: Target) -> None:
    with Connection(target) as connection:
        head = connection.ask(chat(target, {}, stream=False), Accept_Encoding="gzip, br")
        assert "content-encoding" not in head.headers
        assert connection.body(head).lstrip().startswith(b"{")


@pytest.mark.parametrize("made", [1, 2])
def test_tokens_are_sent_as_they_are_made(target: Target, made: int) -> None:
    """The engine says no more after them: what waited for more would never come."""
    needs(target, "scripted")
    with Connection(target) as connection:
        connection.ask(chat(target, {"tokens": 5, "hang_after": made}))
        next(event for event in connection.events() if f'"t{made - 1} '.encode() in event.raw)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/chat/completions",
        pytest.param("/v1/responses", marks=pytest.mark.slow),
        pytest.param("/v1/messages", marks=pytest.mark.slow),
    ],
)
def test_no_stream_is_silent_for_long_not_even_before_the_engine_answers(target: Target, path: str) -> None:
    needs(target, "heartbeat", "scripted", *([path.removeprefix("/v1/")] if "chat" not in path else []))
    script = {"ttft": 3 * HEARTBEAT_SECONDS, "tokens": 2, "gap": 2.5 * HEARTBEAT_SECONDS}
    body = chat(target, script) | {"input": "one", "store": False, "max_output_tokens": 32}
    asked = time.monotonic()
    _, events = stream(target, body, path)
    moments = [asked, *(event.at for event in events)]
    silences = [later - earlier for earlier, later in itertools.pairwise(moments)]
    assert max(silences) < min(LONGEST_SILENCE, HEARTBEAT_SECONDS + LATENESS), silences
    told = [index for index, event in enumerate(events) if b"t0 " in event.raw]
    kept_alive = [index for index, event in enumerate(events) if event.is_comment or b"event: ping" in event.raw]
    assert kept_alive, "nothing kept it alive"
    assert kept_alive[0] < told[0] < kept_alive[-1], "before the first token, and between tokens"


def test_a_cold_start_is_told_in_comments(target: Target) -> None:
    needs(target, "cold", "scripted")
    unload(target)
    head, events = stream(target, chat(target, {}, model="cold"))
    comments = [event.raw.decode() for event in events if event.is_comment]
    assert head.status == 200
    assert any("boot" in comment for comment in comments), comments
    assert events[-1].data == "[DONE]"


def unload(target: Target) -> None:
    with Connection(target) as connection:
        head = connection.ask(b"", "/models/cold/unload")
        assert head.status < 300, connection.body(head)


def test_an_engine_that_fails_in_mid_stream_ends_it_with_a_nested_error_and_no_done(target: Target) -> None:
    needs(target, "scripted")
    for script in ({"tokens": 9, "error_after": 2}, {"tokens": 9, "cut_after": 2}):
        _, events = stream(target, chat(target, script))
        said = [event.data for event in events if not event.is_comment]
        assert set(said[-1]) == {"error"}, said[-1]
        assert set(said[-1]["error"]) >= {"message", "type", "param", "code"}
        assert "[DONE]" not in said
        assert "Traceback" not in said[-1]["error"]["message"]


def test_an_engines_refusal_is_a_status_and_no_stream(target: Target) -> None:
    needs(target, "scripted")
    with Connection(target) as connection:
        head = connection.ask(chat(target, {"error_after": 0, "error_status": 400}))
        assert (head.status, head.headers["content-type"]) == (400, "application/json")


def test_anthropics_stream_names_its_events_and_has_no_done(target: Target) -> None:
    needs(target, "messages", "scripted")
    _, events = stream(target, chat(target, {"tokens": 2}), "/v1/messages")
    named = [event.raw.decode().split("\n") for event in events if not event.is_comment]
    kinds = [lines[0].removeprefix("event: ") for lines in named]
    assert all(len(lines) == 2 and lines[1].startswith("data: {") for lines in named), named
    assert [kind for kind in kinds if kind != "ping"] == [
        "message_start", "content_block_start", "content_block_delta", "content_block_delta", "content_block_stop",
        "message_delta", "message_stop",
    ]  # fmt: skip


def test_a_responses_stream_names_its_events_numbers_them_and_has_no_done(target: Target) -> None:
    needs(target, "responses", "scripted")
    body = {"model": target.model, "input": "one", "stream": True, "store": False, "x_scripted": {"tokens": 1}}
    _, events = stream(target, body, "/v1/responses")
    named = [event.raw.decode().split("\n") for event in events if not event.is_comment]
    assert all(len(lines) == 2 for lines in named), named
    kinds = [lines[0].removeprefix("event: ") for lines in named]
    assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
    assert all(f'"type":"{kind}"' in lines[1] for kind, lines in zip(kinds, named, strict=True))
    assert all(f'"sequence_number":{index}' in lines[1] for index, lines in enumerate(named))


def test_the_services_own_stream_is_text_that_an_event_source_reads_back(target: Target) -> None:
    needs(target, "own-dialect", "scripted")
    text = "one\ntwo  three\r\nfour 世界"
    body = {"model-name": target.model, "prompt": "one", "x_scripted": {"text": text}}
    _, events = stream(target, body, "/chat/completions")
    said = [event.raw.decode() for event in events if event.raw.startswith(b"data:")]
    assert "".join(as_event_source(event) for event in said).replace("\r\n", "\n") == text.replace("\r\n", "\n")


def as_event_source(event: str) -> str:
    """What a browser's EventSource makes of an event's lines."""
    lines = [line.removeprefix("data:") for line in event.split("\n")]
    return "\n".join(line.removeprefix(" ") for line in lines)
