"""The scripted engine: what a request scripts is what it gets, and what becomes of a request is counted."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from functions.engines.base import Address, Engine, EngineStartError
from functions.engines.script import Script, ScriptError
from functions.engines.scripted import ScriptedEngine
from functions.engines.scripted_server import Options, ScriptedServer
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

Json = dict[str, Any]


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer() as running:
        yield running


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def chat(script: Json | None = None, **more: Any) -> Json:
    body: Json = {"model": "scripted", "messages": [{"role": "user", "content": "one two three"}], "stream": True}
    return body | {"x_scripted": script or {}} | more


async def events(response: aiohttp.ClientResponse) -> list[Any]:
    text = await response.text()
    assert text.endswith("\n\n")
    payloads = [part.removeprefix("data: ") for part in text.strip().split("\n\n")]
    return [payload if payload == "[DONE]" else json.loads(payload) for payload in payloads]


async def until(condition: Callable[[], bool], *, seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 (the condition is another process's or task's)
            await asyncio.sleep(0.002)


async def test_a_stream_is_role_then_tokens_then_finish_then_done(
    server: ScriptedServer, http: aiohttp.ClientSession
) -> None:
    async with http.post(server.url + "/v1/chat/completions", json=chat({"tokens": 3})) as response:
        said = await events(response)
    assert said[-1] == "[DONE]"
    deltas = [event["choices"][0]["delta"] for event in said[:-1]]
    assert [delta["content"] for delta in deltas] == ["", "t0 ", "t1 ", "t2 ", None]
    assert [event["choices"][0]["finish_reason"] for event in said[:-1]] == [None] * 4 + ["stop"]
    assert server.state()["finished"] == 1


async def test_max_tokens_cuts_and_usage_counts(server: ScriptedServer, http: aiohttp.ClientSession) -> None:
    body = chat({"tokens": 9, "cached_tokens": 2}, max_tokens=4, stream_options={"include_usage": True})
    async with http.post(server.url + "/v1/chat/completions", json=body) as response:
        *_, finish, usage, _done = await events(response)
    assert finish["choices"][0]["finish_reason"] == "length"
    assert usage["usage"] == {
        "prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7, "prompt_tokens_details": {"cached_tokens": 2},
    }  # fmt: skip


async def test_a_prefix_cache_tells_what_is_known_of_earlier_prompts_and_answers(http: aiohttp.ClientSession) -> None:
    async def cached(server: ScriptedServer, *said: str) -> int | None:
        roles = ("user", "assistant")
        messages = [{"role": roles[n % 2], "content": text} for n, text in enumerate(said)]
        body = {"messages": messages, "max_tokens": 2}
        async with http.post(server.url + "/v1/chat/completions", json=body) as response:
            details = (await response.json())["usage"]["prompt_tokens_details"]
            return details["cached_tokens"] if details else None

    async with ScriptedServer(Options(prefix_cache=True)) as server:
        assert await cached(server, "one two three") is None
        assert await cached(server, "one two three", "t0 t1 ", "four five") == 5
        assert await cached(server, "one two three") == 2  # one token is always computed
        assert await cached(server, "one more") == 1
        assert await cached(server, "another one") is None
    async with ScriptedServer() as server:
        assert [await cached(server, "one two three") for _ in range(2)] == [None, None]


async def test_tokens_come_at_the_scripted_pace(server: ScriptedServer, http: aiohttp.ClientSession) -> None:
    began = time.perf_counter()
    arrivals = []
    body = chat({"tokens": 5, "ttft": 0.1, "gap": 0.03})
    async with http.post(server.url + "/v1/chat/completions", json=body) as response:
        async for _ in response.content:
            arrivals.append(time.perf_counter() - began)
    assert arrivals[0] >= 0.1
    assert 0.22 <= arrivals[-1] < 0.6


async def test_a_plain_request_gets_one_answer(server: ScriptedServer, http: aiohttp.ClientSession) -> None:
    body = {"model": "scripted", "prompt": "a b", "x_scripted": {"text": "so it is"}}
    async with http.post(server.url + "/v1/completions", json=body) as response:
        answer = await response.json()
    assert answer["choices"][0]["text"] == "so it is"
    assert answer["usage"]["completion_tokens"] == 3


@pytest.mark.parametrize("after", [0, 2])
async def test_an_error_comes_where_the_script_says(
    server: ScriptedServer, http: aiohttp.ClientSession, after: int
) -> None:
    body = chat({"error_after": after, "error_status": 400})
    async with http.post(server.url + "/v1/chat/completions", json=body) as response:
        status = response.status
        error = await response.json() if after == 0 else (await events(response))[-2]
    assert status == (400 if after == 0 else 200)
    assert error["object"] == "error"
    assert error["code"] == 400
    assert server.state()["failed"] == 1


async def test_an_unknown_script_field_is_refused_by_name(server: ScriptedServer, http: aiohttp.ClientSession) -> None:
    async with http.post(server.url + "/v1/chat/completions", json=chat({"tokns": 3})) as response:
        assert response.status == 400
        assert "x_scripted.tokns" in (await response.json())["message"]


@pytest.mark.parametrize(("field", "value"), [("tokens", "3"), ("gap", -1), ("text", 4), ("tokens", True)])
def test_a_script_value_of_the_wrong_type_is_refused(field: str, value: object) -> None:
    with pytest.raises(ScriptError, match=f"x_scripted.{field}"):
        Script().with_changes({field: value})


async def test_a_closed_connection_aborts_and_is_counted(server: ScriptedServer, http: aiohttp.ClientSession) -> None:
    response = await http.post(server.url + "/v1/chat/completions", json=chat({"hang_after": 2}, rid="r1"))
    await response.content.readline()
    assert server.state()["active"] == 1
    response.close()
    await until(lambda: server.state()["aborted"] == 1)
    record = server.state()["requests"][-1]
    assert (record["rid"], record["reason"], record["abort"]) == ("r1", "closed", None)
    assert record["closed"] is not None


async def test_an_abort_request_ends_the_stream_and_is_counted(
    server: ScriptedServer, http: aiohttp.ClientSession
) -> None:
    response = await http.post(server.url + "/v1/chat/completions", json=chat({"hang_after": 2}, rid="r2"))
    await response.content.readline()
    headers = {"Modal-Session-ID": "s2"}
    async with http.post(server.url + "/abort_request", json={"rid": "r2"}, headers=headers) as answer:
        assert answer.status == 200
    assert (await events(response))[-2]["choices"][0]["finish_reason"] == "abort"
    record = server.state()["requests"][-1]
    assert (record["outcome"], record["reason"], record["abort_session"]) == ("aborted", "abort_request", "s2")


async def test_a_deaf_engine_goes_on_for_nobody_until_it_is_told(http: aiohttp.ClientSession) -> None:
    async with ScriptedServer(Options(deaf_to_close=True)) as deaf:
        body = chat({"ttft": 0.1, "hang_after": 1}, rid="r4")
        asked = asyncio.create_task(http.post(deaf.url + "/v1/chat/completions", json=body))
        await until(lambda: deaf.state()["active"] == 1)
        asked.cancel()
        await until(lambda: deaf.state()["requests"][-1]["closed"] is not None)
        await until(lambda: deaf.state()["requests"][-1]["tokens"] == 1)
        async with http.post(deaf.url + "/abort_request", json={"rid": "r4"}):
            pass
        await until(lambda: deaf.state()["active"] == 0)
        assert deaf.state()["requests"][-1]["outcome"] == "aborted"


async def test_an_abort_that_follows_the_close_is_seen_too(server: ScriptedServer, http: aiohttp.ClientSession) -> None:
    response = await http.post(server.url + "/v1/chat/completions", json=chat({"hang_after": 1}, rid="r3"))
    response.close()
    await until(lambda: server.state()["active"] == 0)
    async with http.post(server.url + "/abort_request", json={"rid": "r3"}):
        pass
    record = server.state()["requests"][-1]
    assert record["closed"] <= record["abort"]


async def test_an_engine_deaf_to_closing_needs_the_abort(http: aiohttp.ClientSession) -> None:
    async with ScriptedServer(Options(deaf_to_close=True)) as server:
        body = chat({"gap": 0.01, "tokens": 100000}, rid="r4")
        response = await http.post(server.url + "/v1/chat/completions", json=body)
        await response.content.readline()
        response.close()
        await until(lambda: server.state()["requests"][-1]["closed"] is not None)
        said = server.state()["requests"][-1]["tokens"]
        await until(lambda: server.state()["requests"][-1]["tokens"] > said + 3)
        async with http.post(server.url + "/abort_request", json={"rid": "r4"}):
            pass
        await until(lambda: server.state()["active"] == 0)


async def test_tools_are_called_until_their_results_have_come(
    server: ScriptedServer, http: aiohttp.ClientSession
) -> None:
    calls = [{"name": "look", "arguments": "{}"}]
    result = {"role": "tool", "tool_call_id": "x", "content": "a tree"}
    for more, finish in (([], "tool_calls"), ([result], "stop")):
        messages = [{"role": "user", "content": "look"}, *more]
        body = chat({"text": "a tree", "tool_calls": calls}, messages=messages)
        async with http.post(server.url + "/v1/chat/completions", json=body) as response:
            said = await events(response)
        assert said[-2]["choices"][0]["finish_reason"] == finish


@pytest.mark.parametrize(("prompt", "choices"), [("a", 1), (["a", "b"], 2), ([1, 2], 1), ([[1], [2], [3]], 3)])
async def test_every_prompt_is_completed(
    server: ScriptedServer, http: aiohttp.ClientSession, prompt: object, choices: int
) -> None:
    async with http.post(server.url + "/v1/completions", json={"model": "scripted", "prompt": prompt}) as response:
        assert [choice["index"] for choice in (await response.json())["choices"]] == [*range(choices)]


async def test_a_full_queue_is_a_flat_503(http: aiohttp.ClientSession) -> None:
    async with ScriptedServer(Options(max_running=1)) as server:
        first = await http.post(server.url + "/v1/chat/completions", json=chat({"hang_after": 1}))
        async with http.post(server.url + "/v1/chat/completions", json=chat()) as second:
            assert second.status == 503
            assert (await second.json())["message"] == "The request queue is full."
            assert "Retry-After" not in second.headers
        first.close()


async def test_a_cut_stream_has_no_end(server: ScriptedServer, http: aiohttp.ClientSession) -> None:
    with pytest.raises(aiohttp.ClientPayloadError):
        async with http.post(server.url + "/v1/chat/completions", json=chat({"cut_after": 2})) as response:
            await response.read()


async def test_a_crash_inside_a_process_cuts_everyone_and_stops_listening(
    server: ScriptedServer, http: aiohttp.ClientSession
) -> None:
    bystander = await http.post(server.url + "/v1/chat/completions", json=chat({"hang_after": 1}))
    with pytest.raises(aiohttp.ClientError):
        async with http.post(server.url + "/v1/chat/completions", json=chat({"crash_after": 2})) as response:
            await response.read()
    with pytest.raises(aiohttp.ClientError):
        await bystander.read()
    with pytest.raises(aiohttp.ClientConnectorError):
        await http.get(server.url + "/health")


async def test_a_key_is_asked_for_where_one_is_set(http: aiohttp.ClientSession) -> None:
    async with ScriptedServer(Options(api_key="k")) as server:
        async with http.get(server.url + "/v1/models") as response:
            assert response.status == 401
        async with http.get(server.url + "/v1/models", headers={"Authorization": "Bearer k"}) as response:
            assert response.status == 200


class TestProcess:
    async def test_it_starts_sleeps_wakes_crashes_and_stops(self, http: aiohttp.ClientSession) -> None:
        address = Address(host="127.0.0.1", port=free_port())
        engine = ScriptedEngine(address=address, arguments=["--script", '{"tokens": 2}'])
        assert isinstance(engine, Engine)
        assert not engine.healthy()
        await asyncio.to_thread(engine.start)
        try:
            assert engine.healthy()
            await asyncio.to_thread(engine.sleep)
            assert not engine.healthy()
            await asyncio.to_thread(engine.wake)
            body = chat({"crash_after": 1})
            with pytest.raises(aiohttp.ClientError):
                async with http.post(address.url + "/v1/chat/completions", json=body) as response:
                    await response.read()
            await asyncio.wait_for(asyncio.to_thread(engine.wait), 30)
            assert not engine.healthy()
        finally:
            await asyncio.to_thread(engine.stop)

    async def test_a_ctrl_c_of_the_whole_group_does_not_cut_its_answers(self, http: aiohttp.ClientSession) -> None:
        address = Address(host="127.0.0.1", port=free_port())
        engine = ScriptedEngine(address=address)
        await asyncio.to_thread(engine.start)
        try:
            body = chat({"tokens": 6, "gap": 0.1})
            async with http.post(address.url + "/v1/chat/completions", json=body) as response:
                await response.content.readuntil(b"t0")
                pid = engine._process.pid
                assert pid is not None
                os.kill(pid, signal.SIGINT)
                assert (await response.read()).endswith(b"[DONE]\n\n")
            assert engine.healthy()
        finally:
            await asyncio.to_thread(engine.stop)

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["--start-error", "no such file: /m.gguf"], "exited with code 1 while starting: no such file: /m.gguf"),
            (["--script", '{"tokns": 1}'], "x_scripted.tokns: no such field"),
        ],
    )
    def test_a_start_that_fails_says_why(self, arguments: list[str], said: str) -> None:
        engine = ScriptedEngine(address=Address(host="127.0.0.1", port=free_port()), arguments=arguments)
        with pytest.raises(EngineStartError) as caught:
            engine.start()
        assert said in caught.value.message

    def test_a_boot_that_is_too_slow_is_stopped(self) -> None:
        address = Address(host="127.0.0.1", port=free_port())
        engine = ScriptedEngine(address=address, arguments=["--boot-seconds", "60"], startup_timeout=1)
        with pytest.raises(EngineStartError, match="not ready within 1 s"):
            engine.start()
        engine.wait()
