"""A caller who leaves frees the engine within 100 ms, in every phase: its connection is closed and the abort comes."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from functions.engines.scripted_server import Options, ScriptedServer
from tests.web.conftest import SERVERS, chat, target_of, until

if TYPE_CHECKING:
    from tests.web.conftest import Json, Served
    from tests.web.doubles import HandClock, HandEngine

PROMISE = 0.1
ATTEMPTS = 20
"""The promise is about the relay. This machine may hold any one attempt up, not each of several."""

PHASES = {
    "a stream, before the first token": chat({"ttft": 60}),
    "a stream, between tokens": chat({"gap": 60}),
    "a stream of many tokens": chat({"gap": 0.005, "tokens": 100_000}),
    "a plain request, before the first token": chat({"ttft": 60}, stream=False),
    "a plain request, between tokens": chat({"gap": 0.005, "tokens": 100_000}, stream=False),
}


@pytest.fixture(params=SERVERS.values(), ids=[*SERVERS])
def http_protocol(request: pytest.FixtureRequest) -> Any:
    """Both, since they are told of it in different ways."""
    return request.param


@pytest.mark.parametrize("body", PHASES.values(), ids=PHASES.keys())
async def test_leaving_closes_the_upstream_and_aborts_within_100_ms(
    served: Served, engine: ScriptedServer, body: Json
) -> None:
    times = []
    for _ in range(ATTEMPTS):
        record = await leave_during(served, engine, body)
        assert record["abort_session"] == record["session"], "the abort must land on the same container"
        times.append(max(record["abort"], record["closed"]) - record["left"])
        if times[-1] < PROMISE:
            break
    assert min(times) < PROMISE, times
    assert engine.state()["active"] == 0
    assert engine.state()["aborted"] == len(times)


async def leave_during(served: Served, engine: ScriptedServer, body: Json) -> Json:
    """Send `body`, leave once the engine works on it, and return the engine's record of it."""
    started = engine.state()["started"]
    response = await served.raw(body)
    await until(lambda: engine.state()["started"] > started)
    if body["stream"] and "ttft" not in body["x_scripted"]:
        await response.until(b'"t0 "')
    left = time.time()
    response.leave()
    await until(lambda: engine.state()["requests"][-1]["abort"] and engine.state()["requests"][-1]["closed"])
    record: Json = engine.state()["requests"][-1]
    return record | {"left": left}


async def test_an_engine_that_does_not_notice_the_close_is_freed_by_the_abort(serve: Any) -> None:
    """SGLang notices after seconds."""
    async with ScriptedServer(Options(deaf_to_close=True)) as engine:
        served = serve(engine)
        for stream in (True, False):
            response = await served.raw(chat({"gap": 0.01, "tokens": 100_000}, stream=stream))
            await until(lambda: engine.state()["active"] == 1)
            response.leave()
            await until(lambda: engine.state()["active"] == 0)
            assert engine.state()["requests"][-1]["reason"] == "abort_request"


async def test_an_engine_without_aborts_is_only_closed(serve: Any, hand_engine: HandEngine) -> None:
    served = serve(target_of(hand_engine.url, kind="llamacpp"))
    response = await served.raw(chat())
    talk = await hand_engine.next()
    await talk.begin()
    await talk.token("x")
    await response.until(b'"x"')
    response.leave()
    await until(talk.closed.is_set)
    assert (hand_engine.waiting(), hand_engine.aborts) == (0, [])


@pytest.mark.parametrize("stream", [True, False])
async def test_leaving_while_the_engine_boots_ends_the_asking(
    serve: Any, hand_engine: HandEngine, clock: HandClock, stream: bool
) -> None:
    served = serve(hand_engine.url, clock=clock)
    response = await served.raw(chat(stream=stream))
    await (await hand_engine.next()).answer(503, b"modal-http: no container")
    await until(lambda: any(pause <= 1 for pause in clock.pending()))
    response.leave()
    await until(lambda: not clock.pending())
    clock.advance(5)
    assert hand_engine.waiting() == 0
    assert hand_engine.aborts == [], "an abort would wake an engine"


async def test_leaving_with_the_body_half_sent_reaches_no_engine(served: Served, engine: ScriptedServer) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: test\r\nContent-Length: 100\r\n\r\n{")
    await writer.drain()
    writer.transport.abort()
    other = await served.raw(chat())
    assert (await other.head())[0] == 200
    assert engine.state()["started"] == 1


async def test_a_caller_who_stays_is_not_aborted(served: Served, engine: ScriptedServer) -> None:
    for stream in (True, False):
        response = await served.raw(chat({"tokens": 3}, stream=stream))
        await response.rest()
    state = engine.state()
    assert (state["finished"], state["aborted"]) == (2, 0)
    assert all(record["abort"] is None for record in state["requests"])


async def test_many_who_leave_at_once_are_all_aborted(served: Served, engine: ScriptedServer) -> None:
    responses = [await served.raw(chat({"gap": 60})) for _ in range(50)]
    await until(lambda: engine.state()["active"] == 50)
    for response in responses:
        response.leave()
    await until(lambda: all(record["abort"] for record in engine.state()["requests"]))
    assert engine.state()["active"] == 0
    rids = {record["rid"] for record in engine.state()["requests"]}
    assert len(rids) == 50


async def test_the_abort_carries_the_credentials_that_the_platform_asks_for(
    serve: Any, hand_engine: HandEngine
) -> None:
    credentials = {"Modal-Key": "wk-1", "Modal-Secret": "ws-1"}
    served = serve(target_of(hand_engine.url, kind="sglang", headers=credentials))
    response = await served.raw(chat(prompt_cache_key="session-7"))
    talk = await hand_engine.next()
    response.leave()
    await until(lambda: hand_engine.aborts)
    (abort,) = hand_engine.aborts
    for request in (talk, abort):
        assert {name: request.headers[name.lower()] for name in credentials} == credentials
        assert request.headers["modal-session-id"] == "session-7"
    assert (abort.path, json.loads(abort.body)) == ("/abort_request", {"rid": talk.json["rid"]})


async def test_leaving_tells_nobody_and_logs_no_error(
    served: Served, engine: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    response = await served.raw(chat({"gap": 60}, stream=False))
    await until(lambda: engine.state()["active"] == 1)
    response.leave()
    await until(lambda: engine.state()["active"] == 0)
    assert [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []


@pytest.mark.parametrize("stream", [True, False])
async def test_leaving_is_noticed_after_a_long_prompt_too(served: Served, engine: ScriptedServer, stream: bool) -> None:
    """A server stops reading when much of a body has come at once."""
    body = json.dumps(chat({"ttft": 60}, stream=stream, messages=[{"role": "user", "content": "long " * 20_000}]))
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\n")
    writer.write(b"Content-Length: %d\r\n\r\n" % len(body))
    await reader.readuntil(b"100 Continue\r\n\r\n")  # the application waits for it
    writer.write(body.encode())
    await until(lambda: engine.state()["active"] == 1)
    writer.transport.abort()
    await until(lambda: engine.state()["active"] == 0)
    assert engine.state()["aborted"] == 1
