"""Each request is one line of the log when it is over, and every line that it gave rise to has its id."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest

from infra.settings import ApiKey, Model, Models, Observability, Security, Settings
from tests.web.conftest import MODEL, UNLIMITED, chat, settings_with, target_of, until
from tests.web.log_kit import logged
from tests.web.socket_kit import connected, prompt

if TYPE_CHECKING:
    import aiohttp

    from functions.engines.scripted_server import ScriptedServer
    from tests.web.conftest import Json, Serve
    from tests.web.doubles import HandClock, HandEngine
    from tests.web.log_kit import Logged

KEY = "sk-canary-0123456789"
PROMPT = "canary-prompt-e5c1"
ANSWER = "canary-answer-77ab"


async def access(log: Logged, count: int = 1) -> list[Json]:
    await until(lambda: len(log.lines("web.access")) >= count)
    return log.lines("web.access")


async def test_a_line_tells_what_was_asked_by_whom_how_it_was_answered_and_how_long_it_took(
    serve: Serve, engine: ScriptedServer, http: aiohttp.ClientSession
) -> None:
    served = serve(engine, settings=with_keys())
    headers = {"authorization": f"Bearer {KEY}", "x-request-id": "mine-1"}
    with logged() as log:
        body = chat({"tokens": 3, "gap": 0})
        async with http.post(served.url + "/v1/chat/completions?secret=1", json=body, headers=headers) as response:
            assert response.headers["x-request-id"] == "mine-1"
            await response.read()
        (line,) = await access(log)
    seconds = {name: line.pop(name) for name in list(line) if name.endswith("_seconds")}
    assert set(seconds) == {"duration_seconds", "time_to_first_token_seconds", "queue_seconds"}
    assert 0 <= seconds["queue_seconds"] <= seconds["time_to_first_token_seconds"] <= seconds["duration_seconds"] < 20
    rid = line.pop("engine_request_id")
    assert len(rid) == 32
    for name in ("time", "container"):
        del line[name]
    assert line == {
        "level": "info", "logger": "web.access", "message": "POST /v1/chat/completions 200", "request_id": "mine-1",
        "model": "scripted", "method": "POST", "route": "/v1/chat/completions", "status": 200, "key": "production",
        "stream": True, "prompt_tokens": 3, "cached_tokens": 0, "completion_tokens": 3,
    }  # fmt: skip


async def test_a_refusal_says_why_an_unknown_path_is_not_repeated_and_probes_are_details(
    serve: Serve, engine: ScriptedServer, http: aiohttp.ClientSession
) -> None:
    served = serve(engine, settings=with_keys())
    with logged() as log:
        for path in ("/health", "/readiness"):
            await (await http.get(served.url + path)).read()
        await (await http.get(f"{served.url}/{KEY}?key={KEY}", headers={"x-api-key": KEY})).read()
        await (await http.post(served.url + "/v1/chat/completions", json=chat())).read()
        lines = await access(log, 2)
    told = [(line["message"], line["route"], line.get("error"), line.get("key")) for line in lines]
    assert told == [
        ("GET (no route) 404", None, "unknown_url", "production"),
        ("POST (no route) 401", None, "invalid_api_key", None),
    ]
    assert KEY not in "".join(log.texts)


async def test_a_cold_start_and_a_caller_who_leaves_are_told(
    serve: Serve, hand_engine: HandEngine, clock: HandClock
) -> None:
    served = serve(target_of(hand_engine.url), clock=clock)
    with logged() as log:
        caller = await served.raw(chat())
        booting = await hand_engine.next()
        await booting.answer(503, b"no engine yet")
        await caller.until(b": booting")
        await until(clock.pending)
        clock.advance(10.0)
        conversation = await hand_engine.next()
        await conversation.begin()
        await conversation.token("a")
        await caller.until(b'"a"')
        caller.leave()
        (line,) = await access(log)
    assert line["client_left"] is True
    assert line["status"] == 200
    assert line["cold_start_seconds"] == 10.0
    assert line["completion_tokens"] == 1


async def test_the_engine_is_told_the_requests_id_and_asked_by_an_id_that_nobody_else_can_name(
    serve: Serve, hand_engine: HandEngine, http: aiohttp.ClientSession
) -> None:
    served = serve(target_of(hand_engine.url))
    rids = []
    with logged() as log:
        for _ in range(2):  # who says the same id twice aborts nobody's request
            asking = asyncio.create_task(
                http.post(served.url + "/v1/chat/completions", json=chat(stream=False), headers={"x-request-id": "one"})
            )
            conversation = await hand_engine.next()
            assert conversation.headers["x-request-id"] == "one"
            rids.append(conversation.json["rid"])
            await conversation.answer(500, b"{}")
            await (await asking).read()
        lines = await access(log, 2)
    assert len(set(rids)) == 2
    assert [line["engine_request_id"] for line in lines] == rids


async def test_each_answer_over_a_websocket_is_a_line_with_an_id_of_its_own(
    serve: Serve, engine: ScriptedServer
) -> None:
    served = serve(engine, settings=with_keys())
    offered: Any = ["chat", f"openai-insecure-api-key.{KEY}"]
    with logged() as log:
        async with connected(
            served, "?api_key=" + KEY, subprotocols=offered, additional_headers={"x-request-id": "ws"}
        ) as client:
            await client.say(prompt({"tokens": 2, "gap": 0}))
            await access(log)
            await client.say(prompt({"tokens": 10**6, "gap": 0.01}))
            await until(lambda: engine.state()["active"])
            await client.say({"type": "stop"})
            lines = await access(log, 2)
    told = [(line["message"], line["request_id"], line["key"], line.get("error")) for line in lines]
    assert told[0] == ("WEBSOCKET /chat/ws 200", "ws.1", "production", None)
    assert told[1][1:] == ("ws.2", "production", "stopped")
    assert lines[0]["completion_tokens"] == 2
    assert KEY not in "".join(log.texts)


async def test_a_mistake_of_the_services_own_is_logged_with_the_requests_id_and_without_its_words(
    serve: Serve, engine: ScriptedServer, http: aiohttp.ClientSession
) -> None:
    class Guard:
        def check(self, request: Any) -> Any:
            raise ValueError(f"cannot make sense of {request.fields}")

    served = serve(engine, prompt_guard=Guard())
    with logged() as log:
        asked = chat(messages=[{"role": "user", "content": PROMPT}])
        async with http.post(
            served.url + "/v1/chat/completions", json=asked, headers={"x-request-id": "broken"}
        ) as response:
            assert response.status == 500
            await response.read()
        await access(log)
    (failed,) = log.lines("web.middleware")
    assert failed["request_id"] == "broken"
    assert failed["message"] == "a request failed: POST /v1/chat/completions"
    assert "ValueError" in failed["exception"]
    assert PROMPT not in "".join(log.texts)


@pytest.mark.parametrize("asked_for", [False, True])
async def test_prompts_and_answers_are_in_the_log_only_where_they_are_asked_for(
    serve: Serve, engine: ScriptedServer, http: aiohttp.ClientSession, asked_for: bool
) -> None:
    settings = settings_with().model_copy(update={"observability": Observability(log_prompts=asked_for)})
    served = serve(engine, settings=settings)
    with logged(level=logging.DEBUG) as log:
        for stream in (True, False):
            asked = chat({"text": ANSWER}, stream=stream, messages=[{"role": "user", "content": PROMPT}])
            async with http.post(served.url + "/v1/chat/completions", json=asked) as response:
                assert ANSWER[:6] in (await response.text())
        await access(log, 2)
    told = [line.get("prompt") or line.get("answer") for line in log.lines("web.spoken")]
    assert told == ([[PROMPT], ANSWER] * 2 if asked_for else [])
    assert (PROMPT in "".join(log.texts)) is asked_for


async def test_it_can_be_turned_off(serve: Serve, engine: ScriptedServer, http: aiohttp.ClientSession) -> None:
    settings = settings_with().model_copy(update={"observability": Observability(access_log=False)})
    served = serve(engine, settings=settings)
    with logged(level=logging.DEBUG) as log:
        await (await http.post(served.url + "/v1/chat/completions", json=chat({"tokens": 1}))).read()
    assert not log.lines("web.access")


def with_keys() -> Settings:
    model = Model(id="scripted", name=MODEL, local_engine="scripted")
    security = Security(enable_auth=True, api_keys=(ApiKey(key=KEY, name="production"),))
    return Settings(models=Models(available_models=(model,)), security=security, limits=UNLIMITED)
