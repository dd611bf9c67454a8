"""A cold start is waited for: with comments when streaming, within a limit when not; other refusals are told apart."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from functions.engines.base import Address
from functions.engines.failed import FailureServer
from functions.engines.scripted_server import ScriptedServer
from tests.ports import free_port
from tests.web.conftest import chat, until

if TYPE_CHECKING:
    import aiohttp

    from tests.web.doubles import Conversation, HandClock, HandEngine

NO_CONTAINER = b"modal-http: no running containers\n"


def pauses(clock: HandClock) -> list[float]:
    """The sleeps that may be a pause between two attempts: no deadline is that near."""
    return [seconds for seconds in clock.pending() if seconds <= 1.0]


async def turn_until_asked_again(engine: HandEngine, clock: HandClock) -> Conversation:
    """Turn the clock step by step until the relay asks again."""
    while not engine.waiting():
        await until(lambda: engine.waiting() or pauses(clock))
        if not engine.waiting():
            clock.advance(pauses(clock)[0])
    return await engine.next()


async def test_a_streaming_caller_gets_comments_at_once_and_then_the_answer_once_the_engine_is_there(
    serve: Any, http: aiohttp.ClientSession
) -> None:
    port = free_port()
    served = serve(f"http://127.0.0.1:{port}", web={"heartbeat_interval": 0.1})
    response = await served.raw(chat({"tokens": 2}))
    status, headers = await response.head()
    assert (status, headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    await response.until(b": booting")
    assert b"data:" not in response.received
    engine = ScriptedServer()
    await engine.start(port=port)
    try:
        said = await response.rest()
    finally:
        await engine.stop()
    assert said.index(b": booting") < said.index(b'"role":"assistant"') < said.index(b'"t1 "') < said.index(b"[DONE]")


async def test_a_booting_stream_is_never_silent_for_15_s(serve: Any, hand_engine: HandEngine, clock: HandClock) -> None:
    served = serve(hand_engine.url, clock=clock)
    response = await served.raw(chat())
    began, heard, silences = clock.monotonic(), clock.monotonic(), []
    await (await hand_engine.next()).answer(503, NO_CONTAINER)
    await response.until(b": booting 0.0 s")
    while clock.monotonic() - began < 40:
        comments = response.received.count(b": booting")
        await (await turn_until_asked_again(hand_engine, clock)).answer(503, NO_CONTAINER)
        await until(lambda: pauses(clock))
        response.received += await response.ready()
        if response.received.count(b": booting") > comments:
            silences.append(clock.monotonic() - heard)
            heard = clock.monotonic()
    response.leave()
    assert len(silences) >= 3
    assert max(silences) < 15


async def test_a_model_that_loads_its_weights_is_booting(serve: Any, hand_engine: HandEngine, clock: HandClock) -> None:
    served = serve(hand_engine.url, clock=clock)
    response = await served.raw(chat())
    loading = {"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}}
    await (await hand_engine.next()).answer(503, json.dumps(loading).encode())
    await response.until(b": booting")
    talk = await turn_until_asked_again(hand_engine, clock)
    await talk.begin()
    await talk.token("hello", finish="stop")
    await talk.end()
    assert b'"hello"' in await response.rest()


async def test_heartbeats_come_before_an_engine_that_is_slow_to_answer(
    serve: Any, hand_engine: HandEngine, clock: HandClock
) -> None:
    served = serve(hand_engine.url, clock=clock)
    response = await served.raw(chat())
    talk = await hand_engine.next()
    await until(lambda: 2.0 in clock.pending())
    clock.advance(2.0)
    await response.until(b": waiting 2.0 s")
    await until(lambda: 5.0 in clock.pending())
    clock.advance(5.0)
    await response.until(b": waiting 7.0 s")
    await talk.begin()
    await talk.token("late")
    await response.until(b'"late"')
    response.leave()


async def test_a_quiet_stream_gets_comments_between_its_tokens(
    serve: Any, hand_engine: HandEngine, clock: HandClock
) -> None:
    served = serve(hand_engine.url, clock=clock)
    response = await served.raw(chat())
    talk = await hand_engine.next()
    await talk.begin()
    await talk.token("one")
    await response.until(b'"one"')
    for _ in range(3):
        before, began = response.received.count(b": streaming"), clock.monotonic()
        while response.received.count(b": streaming") == before:
            await until(lambda: clock.pending()[0] <= 5.0)
            clock.advance(clock.pending()[0])
            response.received += await response.ready()
            assert clock.monotonic() - began < 15
    response.leave()


async def test_a_plain_caller_waits_for_the_boot(serve: Any) -> None:
    port = free_port()
    served = serve(f"http://127.0.0.1:{port}")
    response = await served.raw(chat({"tokens": 2}, stream=False))
    engine = ScriptedServer()
    await engine.start(port=port)
    try:
        status, _ = await response.head()
        assert (status, json.loads(await response.rest())["choices"][0]["message"]["content"]) == (200, "t0 t1 ")
    finally:
        await engine.stop()


@pytest.mark.parametrize("stream", [False, True])
async def test_who_has_waited_long_enough_is_told_so(serve: Any, stream: bool) -> None:
    limits = {"plain_deadline": 0.2, "boot_deadline": 0.2}
    served = serve(f"http://127.0.0.1:{free_port()}", web=limits)
    response = await served.raw(chat(stream=stream))
    status, headers = await response.head()
    body = (await response.rest()).decode()
    if stream:
        assert status == 200
        error = json.loads(body[body.index("data: ") + 6 : body.index("\n\n", body.index("data: "))])["error"]
    else:
        assert status == 503
        assert 1 <= int(headers["retry-after"]) <= 60
        assert headers["x-should-retry"] == "true"
        error = json.loads(body)["error"]
    assert error["code"] == "model_booting"


async def test_a_plain_caller_is_answered_before_modal_would_redirect(
    serve: Any, hand_engine: HandEngine, clock: HandClock
) -> None:
    served = serve(hand_engine.url, clock=clock)
    began = clock.monotonic()
    response = await served.raw(chat(stream=False))
    await (await hand_engine.next()).answer(503, NO_CONTAINER)
    answered = asyncio.ensure_future(response.head())
    while not answered.done():
        await until(lambda: answered.done() or hand_engine.waiting() or pauses(clock))
        if hand_engine.waiting():
            await (await hand_engine.next()).answer(503, NO_CONTAINER)
        elif pauses(clock):
            clock.advance(pauses(clock)[0])
    assert answered.result()[0] == 503
    assert 100 < clock.monotonic() - began < 150


async def test_a_boot_that_failed_is_told_at_once_and_not_retried(serve: Any, http: aiohttp.ClientSession) -> None:
    address = Address(host="127.0.0.1", port=free_port())
    failure = FailureServer(address, "no such file: /models/demo.gguf")
    failure.start()
    try:
        served = serve(address.url)
        for stream in (True, False):
            async with http.post(served.url + "/v1/chat/completions", json=chat(stream=stream)) as response:
                assert response.status == 503
                assert response.headers["x-should-retry"] == "false"
                error = (await response.json())["error"]
            assert error["code"] == "engine_start_failed"
            assert "no such file: demo.gguf" in error["message"]
    finally:
        failure.stop()


async def test_a_full_engine_is_overload_not_a_boot(serve: Any, hand_engine: HandEngine, clock: HandClock) -> None:
    served = serve(hand_engine.url, clock=clock)
    response = await served.raw(chat())
    flat = {"object": "error", "message": "The request queue is full.", "type": "ServiceUnavailableError", "code": 503}
    await (await hand_engine.next()).answer(503, json.dumps(flat).encode())
    status, headers = await response.head()
    assert (status, headers["x-should-retry"]) == (503, "true")
    assert 1 <= int(headers["retry-after"]) <= 60
    assert json.loads(await response.rest())["error"]["code"] == "server_is_overloaded"


async def test_a_platform_without_room_is_asked_again_with_another_affinity(
    serve: Any, hand_engine: HandEngine, clock: HandClock
) -> None:
    served = serve(hand_engine.url, clock=clock)
    response = await served.raw(chat(prompt_cache_key="mine"))
    first = await hand_engine.next()
    assert first.headers["modal-session-id"] == "mine"
    await first.answer(429, b"modal-http: too many requests\n")
    await response.until(b": busy")
    second = await turn_until_asked_again(hand_engine, clock)
    assert second.headers["modal-session-id"] != "mine"
    await second.begin()
    await second.token("room", finish="stop")
    await second.end()
    assert b'"room"' in await response.rest()


async def test_a_platform_that_stays_full_is_overload_in_the_end(
    serve: Any, hand_engine: HandEngine, clock: HandClock
) -> None:
    served = serve(hand_engine.url, clock=clock)
    response = await served.raw(chat(stream=False))
    await (await hand_engine.next()).answer(429, b"modal-http: too many requests\n")
    await until(lambda: pauses(clock))
    clock.advance(31)
    await (await hand_engine.next()).answer(429, b"modal-http: too many requests\n")
    status, _ = await response.head()
    assert status == 503
    assert json.loads(await response.rest())["error"]["code"] == "model_at_capacity"


async def test_missing_proxy_credentials_are_the_operators_error(
    serve: Any, hand_engine: HandEngine, http: aiohttp.ClientSession
) -> None:
    served = serve(hand_engine.url)
    response = await served.raw(chat())
    missing = b"modal-http: missing credentials for proxy authorization\n"
    await (await hand_engine.next()).answer(401, missing)
    status, headers = await response.head()
    assert (status, headers["x-should-retry"]) == (502, "false")
    assert json.loads(await response.rest())["error"]["code"] == "engine_unreachable"


async def test_listing_models_wakes_no_engine(serve: Any, hand_engine: HandEngine, http: aiohttp.ClientSession) -> None:
    served = serve(hand_engine.url)
    for path in ("/v1/models", "/v1/models/scripted", "/health", "/readiness", "/"):
        async with http.get(served.url + path) as response:
            assert response.status == 200
    assert hand_engine.waiting() == 0
