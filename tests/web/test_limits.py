"""Limits on the wire: who is counted, what the headers say, and that real clients come back when they are told to."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import aiohttp
import openai
import pytest

from infra.settings import Limits, Security, Settings
from tests.web.conftest import MODEL, chat, payloads, settings_with, target_of, until
from tests.web.doubles import HandClock
from tests.web.test_errors import error_of
from web.addresses import LONGEST_ADDRESS, _read, client_address

if TYPE_CHECKING:
    from collections.abc import Sequence

    from functions.engines.scripted_server import ScriptedServer
    from tests.web.conftest import Served
    from tests.web.doubles import HandEngine

HELLO: Any = [{"role": "user", "content": "hi"}]


def limited(requests: int = 3, *, proxies: Sequence[str] = (), **more: int) -> Settings:
    wide = {"max_prompt_length": 10**6, "max_response_tokens": 10**6, **more}
    security = Security.model_validate({"trusted_proxies": proxies})
    limits = Limits(default_rate_limit_per_minute=requests, **wide)
    return settings_with().model_copy(update={"limits": limits, "security": security})


def rates(response: aiohttp.ClientResponse, kind: str = "requests") -> tuple[str, str, str]:
    limit, remaining, reset = (
        response.headers[f"x-ratelimit-{what}-{kind}"] for what in ("limit", "remaining", "reset")
    )
    return limit, remaining, reset


async def test_every_answer_of_a_limited_route_tells_the_rate(
    serve: Any, engine: ScriptedServer, http: aiohttp.ClientSession, clock: HandClock
) -> None:
    served = serve(engine, settings=limited(10), clock=clock)
    url = served.url + "/v1/chat/completions"
    async with http.post(url, json=chat()) as stream:
        assert payloads(await stream.text())[-1] == "[DONE]"
        assert rates(stream) == ("10", "9", "1m0s")
    clock.advance(12.25)
    async with http.post(url, json=chat(stream=False)) as whole:
        assert (whole.status, rates(whole)) == (200, ("10", "8", "1m0s"))
    async with http.post(url, data=b"{") as broken:
        assert (broken.status, rates(broken)) == (400, ("10", "7", "1m0s"))
    async with http.post(url, json=chat(model="none")) as unknown:
        assert (unknown.status, rates(unknown)) == (404, ("10", "6", "1m0s"))
    async with http.post(served.url + "/v1/messages", json={"model": MODEL}) as other:
        assert (other.status, rates(other)) == (400, ("10", "5", "1m0s"))


async def test_what_costs_nothing_is_not_counted(
    serve: Any, engine: ScriptedServer, http: aiohttp.ClientSession
) -> None:
    served = serve(engine, settings=limited(1))
    for path in ("/health", "/readiness", "/v1/models", "/models", "/metrics", "/", "/v1/models/scripted", "/nothing"):
        for _ in range(3):
            async with http.get(served.url + path) as response:
                assert response.status in (200, 404)
                assert "x-ratelimit-limit-requests" not in response.headers, path
    async with http.post(served.url + "/v1/completions", json={"model": MODEL, "prompt": "x"}) as response:
        assert (response.status, rates(response)[1]) == (200, "0")


async def test_beyond_the_limit_it_is_429_with_the_time_to_come_back_and_no_engine_hears_of_it(
    serve: Any, engine: ScriptedServer, http: aiohttp.ClientSession, clock: HandClock
) -> None:
    served = serve(engine, settings=limited(2), clock=clock)
    url = served.url + "/v1/chat/completions"
    for _ in range(2):
        async with http.post(url, json=chat(stream=False)) as response:
            assert response.status == 200
        clock.advance(10)
    async with http.post(url, json=chat()) as response:
        error = error_of(await response.text())
        assert (response.status, error["type"], error["code"]) == (429, "requests", "rate_limit_exceeded")
        told = {name: response.headers[name] for name in ("retry-after", "retry-after-ms", "x-should-retry")}
        assert told == {"retry-after": "40", "retry-after-ms": "40000", "x-should-retry": "true"}
        assert rates(response) == ("2", "0", "50s")
    assert engine.state()["started"] == 2
    clock.advance(40)
    async with http.post(url, json=chat(stream=False)) as response:
        assert (response.status, rates(response)) == (200, ("2", "0", "1m0s"))


async def test_the_counters_of_the_limit_count_each_decision(
    serve: Any, engine: ScriptedServer, http: aiohttp.ClientSession
) -> None:
    served = serve(engine, settings=limited(2))
    for _ in range(5):
        async with http.post(served.url + "/v1/completions", json={"model": MODEL, "prompt": "x"}):
            pass
    async with http.get(served.url + "/metrics") as response:
        lines = (await response.text()).splitlines()
    assert "rate_limit_allowed_total 2.0" in lines
    assert "rate_limit_blocked_total 3.0" in lines


async def test_each_prompt_on_a_websocket_counts_as_a_request(
    serve: Any, engine: ScriptedServer, http: aiohttp.ClientSession
) -> None:
    served = serve(engine, settings=limited(2))
    async with http.ws_connect(served.url + "/chat/ws") as socket:
        frames = []
        for _ in range(3):
            await socket.send_json({"model-name": MODEL, "prompt": "hi", "max-token": 2})
        while not (frames and frames[-1].startswith("__ERROR__:")):
            frames.append(await socket.receive_str(timeout=30))
    assert "Rate limit reached: 2 requests a minute" in frames[-1]
    async with http.post(served.url + "/v1/completions", json={"model": MODEL, "prompt": "x"}) as response:
        assert response.status == 429, "the WebSocket and HTTP share one limit"


@pytest.mark.parametrize("over", ["http", "websocket"])
async def test_a_turn_that_has_to_be_shortened_counts_as_one_request(
    serve: Any, hand_engine: HandEngine, http: aiohttp.ClientSession, over: str
) -> None:
    served = serve(target_of(hand_engine.url, kind="llamacpp"), settings=limited(100))
    async with http.ws_connect(served.url + "/chat/ws") as socket:
        for number in range(2):
            body = {"model-name": MODEL, "prompt": "hi", "session-id": "s"}
            if over == "http":
                response = await served.raw(body, "/chat/completions")
            else:
                await socket.send_json(body)
            talk = await hand_engine.next()
            if number:
                await talk.answer(400, b'{"message": "longer than the maximum context", "code": 400}')
                talk = await hand_engine.next()
            await talk.begin()
            await talk.token("a", finish="stop")
            await talk.end()
            if over == "http":
                assert b"data: a" in await response.rest()
            else:
                assert await socket.receive_str(timeout=30) == "a"
    async with http.get(served.url + "/metrics") as told:
        assert "rate_limit_allowed_total 2.0" in (await told.text()).splitlines()


async def test_openais_sdk_waits_as_long_as_it_is_told_and_succeeds(
    serve: Any, engine: ScriptedServer, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = serve(engine, settings=limited(1), clock=clock)
    waits = []

    async def wait(seconds: float) -> None:
        waits.append(seconds)
        clock.advance(seconds)

    await served.sdk().chat.completions.create(model=MODEL, messages=HELLO)
    clock.advance(47.5)
    with pytest.raises(openai.RateLimitError) as caught:
        await served.sdk().chat.completions.create(model=MODEL, messages=HELLO)
    assert caught.value.code == "rate_limit_exceeded"
    monkeypatch.setattr("anyio.sleep", wait)
    monkeypatch.setattr("asyncio.sleep", wait)
    answer = await served.sdk(max_retries=2).chat.completions.create(model=MODEL, messages=HELLO)
    assert answer.choices[0].message.content
    assert waits == [12.5]


async def test_tokens_are_reserved_before_and_settled_after(
    serve: Any, engine: ScriptedServer, http: aiohttp.ClientSession, clock: HandClock
) -> None:
    served = serve(engine, settings=limited(100, default_tokens_per_minute=1000), clock=clock)
    url = served.url + "/v1/chat/completions"
    async with http.post(url, json=chat(stream=False, max_tokens=5)) as response:
        usage = (await response.json())["usage"]
        assert rates(response, "tokens")[0] == "1000"
    clock.advance(1)
    spent = usage["total_tokens"]
    async with http.post(url, json=chat(stream=False, max_tokens=2000)) as response:
        error = error_of(await response.text())
        assert (response.status, error["type"]) == (429, "tokens")
        assert response.headers["x-should-retry"] == "false"
        assert "retry-after" not in response.headers
        assert rates(response, "tokens") == ("1000", str(1000 - spent), "59s")
    async with http.post(url, json=chat(stream=False, max_tokens=994)) as response:
        error = error_of(await response.text())
        assert (response.status, response.headers["retry-after"]) == (429, "59")
    async with http.post(url, json=chat(stream=False, max_tokens=900)) as response:
        assert response.status == 200


async def test_of_a_broken_answer_what_was_heard_is_settled_and_of_none_nothing(
    serve: Any, hand_engine: HandEngine, http: aiohttp.ClientSession, clock: HandClock
) -> None:
    served = serve(hand_engine.url, settings=limited(100, default_tokens_per_minute=1000), clock=clock)

    async def left() -> int:
        async with http.post(served.url + "/v1/completions", data=b"{") as response:
            return int(rates(response, "tokens")[1])

    refused = await served.raw(chat(max_tokens=500))
    await (await hand_engine.next()).answer(400, json.dumps({"message": "no"}).encode())
    await refused.rest()
    assert await left() == 1000
    leaver = await served.raw(chat(max_tokens=500))
    talk = await hand_engine.next()
    await talk.begin()
    for _ in range(3):
        await talk.token("x")
    await leaver.until(b'"x"')
    leaver.leave()
    await until(talk.closed.is_set)
    used = 1000 - await left()
    assert 5 <= used < 20, "the prompt and what was heard, not the 500 that were set aside"


# Where a request comes from.


def scope(peer: str | None, *forwarded: str) -> dict[str, Any]:
    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    return {"type": "http", "client": None if peer is None else (peer, 1), "headers": headers}


ADDRESSES: list[tuple[str, dict[str, Any], Sequence[str], str]] = [
    ("no proxy is trusted", scope("203.0.113.9", "1.2.3.4"), (), "203.0.113.9"),
    ("the peer is not the trusted one", scope("203.0.113.9", "1.2.3.4"), ("10.0.0.0/8",), "203.0.113.9"),
    ("one proxy", scope("10.0.0.1", "1.2.3.4"), ("10.0.0.0/8",), "1.2.3.4"),
    ("a client who says it is another", scope("10.0.0.1", "9.9.9.9, 1.2.3.4"), ("10.0.0.0/8",), "1.2.3.4"),
    ("several lines are one list", scope("10.0.0.1", "9.9.9.9", "1.2.3.4"), ("10.0.0.0/8",), "1.2.3.4"),
    ("two proxies", scope("10.0.0.1", "9.9.9.9, 1.2.3.4, 10.0.0.2"), ("10.0.0.0/8",), "1.2.3.4"),
    ("proxies all the way", scope("10.0.0.1", "10.0.0.3, 10.0.0.2"), ("10.0.0.0/8",), "10.0.0.3"),
    ("no header", scope("10.0.0.1"), ("10.0.0.0/8",), "10.0.0.1"),
    ("nonsense ends the list", scope("10.0.0.1", "1.2.3.4, unknown, 10.0.0.2"), ("10.0.0.0/8",), "10.0.0.2"),
    ("with a port", scope("10.0.0.1", "1.2.3.4:5678"), ("10.0.0.1",), "1.2.3.4"),
    ("an address of IPv6 is its network", scope("2001:db8:1:2:3::4"), (), "2001:db8:1:2::/64"),
    ("in brackets", scope("10.0.0.1", "[2001:db8:1:2::5]:443"), ("10.0.0.1/32",), "2001:db8:1:2::/64"),
    ("IPv4 in IPv6", scope("::ffff:203.0.113.9"), (), "203.0.113.9"),
    ("a proxy's IPv4 in IPv6", scope("::ffff:10.0.0.1", "1.2.3.4"), ("10.0.0.0/8",), "1.2.3.4"),
    ("no peer", scope(None, "1.2.3.4"), ("0.0.0.0/0",), "unknown"),
    ("an endless list", scope("10.0.0.1", ", ".join(["10.0.0.2"] * 5000)), ("10.0.0.0/8",), "10.0.0.2"),
]


@pytest.mark.parametrize(("asked", "proxies", "address"), [row[1:] for row in ADDRESSES], ids=[r[0] for r in ADDRESSES])
def test_the_client_is_the_nearest_address_that_is_no_trusted_proxy(
    asked: dict[str, Any], proxies: Sequence[str], address: str
) -> None:
    trusted = Security.model_validate({"trusted_proxies": proxies}).trusted_proxies
    assert client_address(asked, trusted) == address


def test_where_only_a_proxy_can_connect_its_word_is_taken_and_no_more() -> None:
    assert client_address(scope("172.16.0.9", "9.9.9.9, 1.2.3.4"), (), behind_proxy=True) == "1.2.3.4"
    assert client_address(scope("172.16.0.9"), (), behind_proxy=True) == "172.16.0.9"


async def test_a_client_cannot_escape_its_limit_by_saying_that_it_is_another(
    serve: Any, engine: ScriptedServer, http: aiohttp.ClientSession
) -> None:
    async def statuses(served: Served, *forwarded: str) -> list[int]:
        found = []
        for one in forwarded:
            headers = {"X-Forwarded-For": one, "Forwarded": f"for={one}", "X-Real-IP": one}
            async with http.post(served.url + "/v1/completions", data=b"{", headers=headers) as response:
                found.append(response.status)
        return found

    assert await statuses(serve(engine, settings=limited(2)), "1.1.1.1", "2.2.2.2", "3.3.3.3") == [400, 400, 429]
    behind = serve(engine, settings=limited(1, proxies=["127.0.0.0/8"]))
    told = await statuses(behind, "1.1.1.1", "2.2.2.2", "1.1.1.1", "9.9.9.9, 1.1.1.1", "1.1.1.1, 3.3.3.3")
    assert told == [400, 400, 429, 429, 400]


def test_what_is_too_long_for_an_address_is_not_remembered() -> None:
    before = _read.cache_info().currsize
    scope = {"client": ("10.0.0.1", 1), "headers": [(b"x-forwarded-for", b"9" * 5000)]}
    assert client_address(scope, (), behind_proxy=True) == "10.0.0.1"
    assert _read.cache_info().currsize <= before + 1, "the peer alone"
    assert len("[0000:0000:0000:0000:0000:0000:0000:0001%interface0]:65535") <= LONGEST_ADDRESS
