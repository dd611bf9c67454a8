"""A stream says what OpenAI's says, in its order, whatever the engine's own habits are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.web.conftest import MODEL, Served, chat

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import aiohttp

    from functions.engines.scripted_server import ScriptedServer

    StreamOf = Callable[..., Awaitable[list[Any]]]


async def test_a_chat_stream_is_role_pieces_finish_done(served: Served, stream_of: StreamOf) -> None:
    *events, done = await stream_of(served, chat({"tokens": 3}))
    assert done == "[DONE]"
    choices = [event["choices"][0] for event in events]
    assert [choice["delta"] for choice in choices] == [
        {"role": "assistant", "content": ""},
        {"content": "t0 "},
        {"content": "t1 "},
        {"content": "t2 "},
        {},
    ]
    assert [choice["finish_reason"] for choice in choices] == [None, None, None, None, "stop"]
    assert {event["object"] for event in events} == {"chat.completion.chunk"}


async def test_id_created_and_model_are_the_same_throughout_and_the_model_is_the_callers_word(
    served: Served, stream_of: StreamOf
) -> None:
    events = (await stream_of(served, chat(stream_options={"include_usage": True})))[:-1]
    assert len({(event["id"], event["created"]) for event in events}) == 1
    assert {event["model"] for event in events} == {MODEL}


async def test_usage_is_a_chunk_of_its_own_and_null_elsewhere_when_asked_for(
    served: Served, stream_of: StreamOf
) -> None:
    body = chat({"tokens": 2, "cached_tokens": 1}, stream_options={"include_usage": True})
    *events, usage, _done = await stream_of(served, body)
    assert all(event["usage"] is None for event in events)
    assert usage["choices"] == []
    assert usage["usage"] == {
        "prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5, "prompt_tokens_details": {"cached_tokens": 1},
    }  # fmt: skip


async def test_usage_is_not_told_unasked_though_the_engine_is_always_asked(
    served: Served, stream_of: StreamOf, engine: ScriptedServer
) -> None:
    events = await stream_of(served, chat())
    assert all("usage" not in event for event in events[:-1])
    assert engine.state()["requests"][-1]["body"]["stream_options"] == {"include_usage": True}


async def test_cached_tokens_are_told_even_where_the_engine_leaves_them_out(
    served: Served, stream_of: StreamOf
) -> None:
    *_, usage, _done = await stream_of(served, chat(stream_options={"include_usage": True}))
    assert usage["usage"]["prompt_tokens_details"] == {"cached_tokens": 0}


async def test_reasoning_comes_as_reasoning_content(served: Served, stream_of: StreamOf) -> None:
    events = await stream_of(served, chat({"reasoning": "let me see", "text": "yes"}))
    deltas = [event["choices"][0]["delta"] for event in events[:-1]]
    assert deltas[1:-1] == [
        {"reasoning_content": "let "}, {"reasoning_content": "me "}, {"reasoning_content": "see"}, {"content": "yes"},
    ]  # fmt: skip


async def test_a_tool_call_opens_with_its_name_and_every_piece_has_its_index(
    served: Served, stream_of: StreamOf
) -> None:
    tools = [{"type": "function", "function": {"name": "look"}}]
    calls = [{"name": "look", "arguments": '{"at":1}'}, {"name": "look", "arguments": '{"at":2}'}]
    events = await stream_of(served, chat({"text": "", "tool_calls": calls}, tools=tools))
    pieces = [call for event in events[:-1] for call in event["choices"][0]["delta"].get("tool_calls", [])]
    assert [piece["index"] for piece in pieces] == [0, 0, 0, 1, 1, 1]
    opening = pieces[3]
    assert opening["id"]
    assert opening == opening | {"type": "function", "function": {"name": "look", "arguments": ""}}
    assert [set(piece) for piece in pieces[1:3]] == [{"index", "function"}] * 2
    assert "".join(piece["function"]["arguments"] for piece in pieces[:3]) == '{"at":1}'
    assert events[-2]["choices"][0]["finish_reason"] == "tool_calls"


async def test_each_of_several_choices_has_its_own_role_and_finish(served: Served, stream_of: StreamOf) -> None:
    events = (await stream_of(served, chat({"tokens": 2}, n=3)))[:-1]
    for index in range(3):
        mine = [event["choices"][0] for event in events if event["choices"][0]["index"] == index]
        assert mine[0]["delta"]["role"] == "assistant"
        assert "".join(choice["delta"].get("content", "") for choice in mine) == "t0 t1 "
        assert mine[-1]["finish_reason"] == "stop"


async def test_log_probabilities_travel_with_their_piece(served: Served, stream_of: StreamOf) -> None:
    events = await stream_of(served, chat({"tokens": 1}, logprobs=True, top_logprobs=2))
    (entry,) = events[1]["choices"][0]["logprobs"]["content"]
    assert entry["token"] == "t0 "
    assert len(entry["top_logprobs"]) == 2


async def test_a_completion_streams_text(served: Served, stream_of: StreamOf) -> None:
    body = {"model": MODEL, "prompt": "a b", "stream": True, "max_tokens": 2, "x_scripted": {"tokens": 9}}
    *events, done = await stream_of(served, body, "/v1/completions")
    assert done == "[DONE]"
    assert [event["choices"][0]["text"] for event in events] == ["t0 ", "t1 ", ""]
    assert [event["choices"][0]["finish_reason"] for event in events] == [None, None, "length"]
    assert {event["object"] for event in events} == {"text_completion"}


async def test_the_headers_forbid_buffering_and_compression(served: Served, http: aiohttp.ClientSession) -> None:
    headers = {"Accept-Encoding": "gzip, br"}
    async with http.post(served.url + "/v1/chat/completions", json=chat(), headers=headers) as response:
        told = response.headers
    assert told["content-type"] == "text/event-stream; charset=utf-8"
    assert told["cache-control"] == "no-cache"
    assert told["x-accel-buffering"] == "no"
    assert "content-encoding" not in told


@pytest.mark.parametrize("coalesce", [0.0, 0.01])
async def test_tokens_arrive_as_they_are_made(serve: Any, engine: ScriptedServer, coalesce: float) -> None:
    served = serve(engine, coalesce_seconds=coalesce)
    response = await served.raw(chat({"tokens": 3, "gap": 30}))
    await response.until(b"t0 ")
    assert b"t1 " not in response.received
    response.leave()
