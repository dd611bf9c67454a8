"""Whatever becomes of an engine, its caller hears of it in OpenAI's words, and the next caller is served."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import openai
import pytest

from functions.engines.base import Address
from functions.engines.scripted import ScriptedEngine
from tests.ports import free_port
from tests.web.conftest import chat, payloads, until

if TYPE_CHECKING:
    from functions.engines.scripted_server import ScriptedServer
    from tests.web.conftest import Json, Served
    from tests.web.doubles import HandClock, HandEngine


async def last_event(served: Served, body: Json) -> Any:
    """The last event of a stream, which must have begun with a 200."""
    response = await served.raw(body)
    status, headers = await response.head()
    assert status == 200
    assert headers["transfer-encoding"] == "chunked"
    stream = unchunked(await response.rest())
    return payloads(stream)[-1]


def unchunked(data: bytes) -> str:
    """The body in chunked encoding, which must have ended properly."""
    body = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        body, data = body + data[:length], data[length + 2 :]
        if length == 0:
            return body.decode()
    raise AssertionError("the response was cut")


async def test_an_engine_process_that_dies_mid_stream_is_told_and_its_successor_serves(serve: Any) -> None:
    address = Address(host="127.0.0.1", port=free_port())
    engine = ScriptedEngine(address=address)
    await asyncio.to_thread(engine.start)
    served = serve(address.url)
    error = await last_event(served, chat({"crash_after": 3}))
    assert error["error"]["code"] == "engine_died"
    assert error["error"]["type"] == "server_error"
    await asyncio.to_thread(engine.wait)

    waiting = await served.raw(chat({"tokens": 2}))
    await waiting.until(b": booting")
    successor = ScriptedEngine(address=address)
    await asyncio.to_thread(successor.start)
    try:
        assert payloads(unchunked_after_head(await waiting.rest()))[-1] == "[DONE]"
    finally:
        await asyncio.to_thread(successor.stop)


def unchunked_after_head(data: bytes) -> str:
    return unchunked(data.partition(b"\r\n\r\n")[2])


async def test_the_sdk_raises_on_a_stream_whose_engine_died(served: Served) -> None:
    stream = await served.sdk().chat.completions.create(**sdk(chat({"crash_after": 2})))
    with pytest.raises(openai.APIError, match="died"):
        async for _ in stream:
            pass


def sdk(body: Json) -> Any:
    """The request as the SDK's arguments."""
    return {**{key: value for key, value in body.items() if key != "x_scripted"}, "extra_body": body}


async def test_a_plain_caller_whose_engine_died_gets_an_error_not_half_an_answer(served: Served) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        await served.sdk().chat.completions.create(**sdk(chat({"crash_after": 2}, stream=False)))
    assert caught.value.status_code == 502
    assert caught.value.code == "engine_died"


@pytest.mark.parametrize("script", [{"cut_after": 2}, {"error_after": 2}], ids=["cut", "flat error"])
async def test_no_abnormal_end_is_silent(served: Served, script: Json) -> None:
    error = await last_event(served, chat(script))
    assert set(error) == {"error"}
    assert set(error["error"]) == {"message", "type", "param", "code"}


async def test_a_stream_that_ends_politely_without_finishing_is_an_error(serve: Any, hand_engine: HandEngine) -> None:
    for done in (True, False):
        served = serve(hand_engine.url)
        task = asyncio.ensure_future(last_event(served, chat()))
        talk = await hand_engine.next()
        await talk.begin()
        await talk.token("half an ans")
        await talk.end(done=done)
        assert (await task)["error"]["code"] == "engine_died"


async def test_an_engine_that_aborted_by_itself_did_not_finish(serve: Any, hand_engine: HandEngine) -> None:
    served = serve(hand_engine.url)
    task = asyncio.ensure_future(last_event(served, chat()))
    talk = await hand_engine.next()
    await talk.begin()
    await talk.token("half")
    await talk.token("", finish="abort")
    assert (await task)["error"]["code"] == "engine_aborted"


NESTED = {"error": {"message": "slot unavailable", "type": "server_error", "code": 500}}
FLAT = {"object": "error", "message": "slot unavailable", "type": "InternalServerError", "code": 500}


@pytest.mark.parametrize(
    "said",
    [b"data: " + json.dumps(NESTED).encode(), b"data: " + json.dumps(FLAT).encode(),
     b"error: " + json.dumps(NESTED["error"]).encode()],
    ids=["nested", "flat", "llama.cpp's error field"],
)  # fmt: skip
async def test_an_error_in_the_stream_is_nested_whatever_its_shape_was(
    serve: Any, hand_engine: HandEngine, said: bytes
) -> None:
    served = serve(hand_engine.url)
    task = asyncio.ensure_future(last_event(served, chat()))
    talk = await hand_engine.next()
    await talk.begin()
    await talk.token("some")
    await talk.say(said + b"\n\n")
    error = (await task)["error"]
    assert (error["message"], error["code"]) == ("slot unavailable", "engine_error")


@pytest.mark.parametrize("said", [b"data: {nonsense\n\n", b"data: []\n\n", b'data: {"choices":[{"index":7}]}\n\n'])
async def test_nonsense_from_the_engine_is_an_error(serve: Any, hand_engine: HandEngine, said: bytes) -> None:
    served = serve(hand_engine.url)
    task = asyncio.ensure_future(last_event(served, chat()))
    talk = await hand_engine.next()
    await talk.begin()
    await talk.token("some")
    await talk.say(said)
    assert (await task)["error"]["code"] == "engine_protocol"


REFUSALS = {
    "flat": {"object": "error", "message": "temperature is odd", "type": "BadRequestError", "code": 400},
    "nested": {"error": {"code": 400, "message": "temperature is odd", "type": "invalid_request_error"}},
}


@pytest.mark.parametrize("body", REFUSALS.values(), ids=REFUSALS.keys())
@pytest.mark.parametrize("stream", [True, False])
async def test_what_the_engine_refuses_is_a_400_in_openais_shape(
    serve: Any, hand_engine: HandEngine, body: Json, stream: bool
) -> None:
    served = serve(hand_engine.url)
    response = await served.raw(chat(stream=stream))
    await (await hand_engine.next()).answer(400, json.dumps(body).encode())
    status, _ = await response.head()
    error = json.loads(await response.rest())["error"]
    assert (status, error["type"], error["message"]) == (400, "invalid_request_error", "temperature is odd")


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("The input (9000 tokens) is longer than the model's context length (4096 tokens).",
         "The input (9000 tokens) is longer than the model's context length (4096 tokens)."),
        ("request (9000 tokens) exceeds the available context size (4096 tokens), try increasing it",
         "The prompt has 9000 tokens, and this model's context holds 4096."),
        ("the request exceeds the available context size, try increasing it",
         "the request exceeds the available context size"),
    ],
)  # fmt: skip
async def test_a_prompt_that_is_too_long_has_openais_code_and_words_for_its_caller(
    serve: Any, hand_engine: HandEngine, message: str, told: str
) -> None:
    served = serve(hand_engine.url)
    response = await served.raw(chat())
    await (await hand_engine.next()).answer(400, json.dumps({"object": "error", "message": message}).encode())
    assert (await response.head())[0] == 400
    error = json.loads(await response.rest())["error"]
    assert (error["message"], error["code"], error["param"]) == (told, "context_length_exceeded", "messages")


async def test_one_that_is_found_too_long_in_the_stream_is_told_so_too(serve: Any, hand_engine: HandEngine) -> None:
    served = serve(hand_engine.url)
    task = asyncio.ensure_future(last_event(served, chat()))
    talk = await hand_engine.next()
    await talk.begin()
    await talk.token("some")
    said = "request (9 tokens) exceeds the available context size (4 tokens), try increasing it"
    await talk.event({"error": {"message": said, "code": 400}})
    error = (await task)["error"]
    assert (error["message"], error["code"], error["param"]) == (
        "The prompt has 9 tokens, and this model's context holds 4.", "context_length_exceeded", "messages",
    )  # fmt: skip


async def test_a_refusal_after_comments_is_an_event(serve: Any, hand_engine: HandEngine) -> None:
    served = serve(hand_engine.url, web={"heartbeat_interval": 0.05})
    response = await served.raw(chat())
    talk = await hand_engine.next()
    head = await response.until(b"\n: ")
    assert head.startswith(b"HTTP/1.1 200")
    await talk.answer(400, json.dumps(REFUSALS["flat"]).encode())
    end = await response.until(b"\r\n0\r\n\r\n")
    assert b'"message":"temperature is odd"' in end


async def test_an_engine_that_falls_silent_is_given_up_and_aborted(
    serve: Any, engine: ScriptedServer, clock: HandClock
) -> None:
    served = serve(engine, silence_seconds=0.3)
    assert (await last_event(served, chat({"hang_after": 2})))["error"]["code"] == "engine_stalled"
    await until(lambda: engine.state()["requests"][-1]["abort"])
    response = await served.raw(chat({"hang_after": 2}, stream=False))
    assert (await response.head())[0] == 502
    assert json.loads(await response.rest())["error"]["code"] == "engine_stalled"


async def test_a_request_that_ends_each_engine_it_meets_is_not_asked_for_ever(
    serve: Any, hand_engine: HandEngine, clock: HandClock
) -> None:
    served = serve(hand_engine.url)
    response = await served.raw(chat(stream=False))
    for _ in range(3):
        (await hand_engine.next()).cut()
    assert (await response.head())[0] == 502
    assert json.loads(await response.rest())["error"]["code"] == "engine_died"
    assert hand_engine.waiting() == 0


async def test_a_connection_that_was_closed_while_idle_is_replaced_unseen(serve: Any) -> None:
    from functions.engines.scripted_server import ScriptedServer

    port = free_port()
    served = serve(f"http://127.0.0.1:{port}")
    for _ in range(2):
        engine = ScriptedServer()
        await engine.start(port=port)
        response = await served.raw(chat({"tokens": 1}, stream=False))
        assert (await response.head())[0] == 200
        await response.rest()
        await engine.stop()


async def test_one_byte_at_a_time_is_the_same_stream(serve: Any, hand_engine: HandEngine) -> None:
    served = serve(hand_engine.url)
    response = await served.raw(chat())
    talk = await hand_engine.next()
    await talk.begin()
    event = {"choices": [{"index": 0, "delta": {"content": "naïve ☃"}, "finish_reason": "stop"}]}
    for byte in b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\n\ndata: [DONE]\n\n":
        await talk.say(bytes([byte]))
    await talk.end(done=False)
    await response.head()
    *_, piece, finish, done = payloads(unchunked(await response.rest()))
    assert piece["choices"][0]["delta"] == {"content": "naïve ☃"}
    assert (finish["choices"][0]["finish_reason"], done) == ("stop", "[DONE]")


async def test_progress_during_prefill_is_the_relays_own_affair(serve: Any, hand_engine: HandEngine) -> None:
    served = serve(hand_engine.url)
    response = await served.raw(chat())
    talk = await hand_engine.next()
    await talk.begin()
    delta = {"role": "assistant", "content": None}
    progress = {"total": 100, "cache": 0, "processed": 50, "time_ms": 3}
    await talk.event({"choices": [{"index": 0, "delta": delta, "finish_reason": None}], "prompt_progress": progress})
    await talk.token("x", finish="stop")
    await talk.end()
    said = await response.rest()
    assert b"progress" not in said
    assert said.count(b'"role":"assistant"') == 1
