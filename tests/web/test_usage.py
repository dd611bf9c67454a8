"""Every request that an engine had is counted once, however it ends, under its key, its model and the day."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from infra.settings import Guards, Prices
from tests.web.conftest import MODEL, chat, until
from tests.web.doubles import HandClock
from tests.web.socket_kit import connected, prompt
from tests.web.usage_kit import ALICE, BOB, PRICES, counted, engines_of, priced, usage

if TYPE_CHECKING:
    import aiohttp

    from functions.engines.scripted_server import ScriptedServer
    from tests.web.conftest import Json, Served
    from tests.web.doubles import HandEngine

pytestmark = pytest.mark.slow

SCRIPT: Json = {"tokens": 5, "prompt_tokens": 7, "cached_tokens": 3}


@pytest.fixture
def served(serve: Any, engine: ScriptedServer) -> Served:
    """Without keys: everybody may ask, and read what was used."""
    result: Served = serve(engine, settings=priced(keys=False), engines=engines_of(engine.url))
    return result


async def total(served: Served, http: aiohttp.ClientSession) -> tuple[int, int, int, int, int]:
    return counted((await usage(served, http))["total"])


async def counts(served: Served, http: aiohttp.ClientSession, requests: int) -> None:
    """Return once so many are counted."""
    async with asyncio.timeout(20):
        while (await total(served, http))[0] < requests:
            pass


ANTHROPIC: Json = {
    "model": MODEL, "max_tokens": 99, "messages": [{"role": "user", "content": "a"}], "x_scripted": SCRIPT,
}  # fmt: skip
RESPONSES: Json = {"model": MODEL, "input": "a", "x_scripted": SCRIPT}
TEXT: Json = {"model": MODEL, "prompt": "a", "x_scripted": SCRIPT}
OWN: Json = {"model-name": MODEL, "prompt": "a", "x_scripted": SCRIPT}


ANSWERED: list[tuple[str, Json]] = [
    ("/v1/chat/completions", chat(SCRIPT)),
    ("/v1/chat/completions", chat(SCRIPT, stream=False)),
    ("/v1/completions", TEXT),
    ("/v1/completions", TEXT | {"stream": True}),
    ("/v1/messages", ANTHROPIC),
    ("/v1/messages", ANTHROPIC | {"stream": True}),
    ("/v1/responses", RESPONSES),
    ("/v1/responses", RESPONSES | {"stream": True}),
    ("/chat/completions", OWN),
    ("/chat/completions", OWN | {"session-id": "s"}),
    ("/completions", TEXT),
]


async def test_an_answer_is_one_request_with_the_engines_own_numbers(
    served: Served, http: aiohttp.ClientSession
) -> None:
    for number, (path, body) in enumerate(ANSWERED, 1):
        async with http.post(served.url + path, json=body) as response:
            assert response.status == 200
            await response.read()
        assert await total(served, http) == (number, 0, 7 * number, 3 * number, 5 * number), (path, body)
    (line,) = (await usage(served, http))["data"]
    assert (line["key"], line["name"], line["model"]) == ("anonymous", None, "scripted")
    assert line["cost"] == "0.0004125", "11 times 4 at 1.5, 3 at 0.5 and 5 at 6 a million"


async def test_each_prompt_of_a_websocket_is_one(served: Served, http: aiohttp.ClientSession) -> None:
    async with connected(served) as client:
        for _ in range(2):
            await client.say(prompt(SCRIPT))
            await client.hear_all(5)
        await client.say(prompt(SCRIPT | {"hang_after": 2}))
        await client.hear_all(2)
        await client.say({"type": "stop"})
        await client.say(prompt(SCRIPT))
        await client.hear_all(5)
    requests, estimated, _, cached, completion = await total(served, http)
    assert (requests, estimated, cached, completion) == (4, 1, 9, 17)


async def test_embeddings_are_too_and_the_counting_of_tokens_is_not(
    served: Served, http: aiohttp.ClientSession
) -> None:
    answer = await served.sdk().embeddings.create(model="org/embeds", input=["one two", "three"])
    async with http.post(served.url + "/tokenize", json={"model": MODEL, "prompt": "a b"}) as response:
        assert response.status == 200
    (line,) = (await usage(served, http))["data"]
    assert (line["model"], counted(line)) == ("embeds", (1, 0, answer.usage.prompt_tokens, 0, 0))
    assert line["cost"] == f"{answer.usage.prompt_tokens * 0.000002:f}"


async def test_one_that_the_engine_breaks_off_is_what_was_heard_and_the_prompt_s_estimate(
    served: Served, http: aiohttp.ClientSession
) -> None:
    count = 0
    for script in ({"cut_after": 2}, {"error_after": 2}, {"error_after": 2, "error_status": 400}):
        for stream in (True, False):
            body = chat(SCRIPT | script, stream=stream)
            async with http.post(served.url + "/v1/chat/completions", json=body) as response:
                await response.read()
            count += 1
            assert await total(served, http) == (count, count, 5 * count, 0, 2 * count), "of 13 characters"


async def test_one_that_no_engine_took_is_none(served: Served, http: aiohttp.ClientSession) -> None:
    refused = [
        chat(script) for script in ({"cut_after": 0}, {"error_after": 0, "error_status": 400}, {"error_after": 0})
    ]
    for body in [b"{}", b"{", chat(model="none"), chat(max_tokens="x"), *refused]:
        await (await served.raw(body)).rest()
    assert (await usage(served, http))["data"] == []


async def test_one_whose_caller_leaves_is_what_was_heard_until_then(
    served: Served, engine: ScriptedServer, http: aiohttp.ClientSession
) -> None:
    for left, (script, heard) in enumerate([({"hang_after": 3}, 3), ({"ttft": 60.0}, 0)], 1):
        response = await served.raw(chat(SCRIPT | script))
        if heard:
            await response.until(b'"t2 "')
        await until(lambda: engine.state()["active"] == 1, seconds=20)
        response.leave()
        await counts(served, http, left)
    assert await total(served, http) == (2, 2, 10, 0, 3)


async def test_a_plain_caller_who_leaves_too(
    served: Served, engine: ScriptedServer, http: aiohttp.ClientSession
) -> None:
    response = await served.raw(chat(SCRIPT | {"ttft": 60.0}, stream=False))
    await until(lambda: engine.state()["active"] == 1, seconds=20)
    response.leave()
    await counts(served, http, 1)
    assert await total(served, http) == (1, 1, 5, 0, 0)


@pytest.mark.parametrize("stream", [True, pytest.param(False, marks=pytest.mark.slow)])
async def test_one_that_a_guard_cuts_is_what_the_engine_had_said(
    serve: Any, engine: ScriptedServer, http: aiohttp.ClientSession, stream: bool
) -> None:
    guards = Guards(blocked_answers=("t2",), held_back_characters=4)
    served = serve(engine, settings=priced(keys=False, guards=guards), engines=engines_of(engine.url))
    body = chat(SCRIPT | {"tokens": 50, "hang_after": 4}, stream=stream)
    async with http.post(served.url + "/v1/chat/completions", json=body) as response:
        assert response.status == 200
        assert "content_filter" in await response.text()
    requests, estimated, tokens, _, completion = await total(served, http)
    assert (requests, estimated, tokens) == (1, 1, 5)
    assert completion in (3, 4)


async def test_an_engine_is_paid_from_the_sending_to_its_last_word_and_no_boot_is(
    serve: Any, hand_engine: HandEngine, http: aiohttp.ClientSession, clock: HandClock
) -> None:
    settings = priced(keys=False, prices=Prices.model_validate({"engine_seconds": "0.0001"}))
    served = serve(hand_engine.url, settings=settings, clock=clock, engines=engines_of(hand_engine.url))
    response = await served.raw(chat())
    booting = await hand_engine.next()
    timers = len(clock.pending())
    await booting.answer(503, b"modal-http: no container")
    await response.until(b": booting")
    await until(lambda: len(clock.pending()) > timers, seconds=20)  # until it is to ask again
    clock.advance(100)
    talk = await hand_engine.next()
    clock.advance(2)
    await talk.begin()
    await talk.token("x")
    await response.until(b'"x"')
    clock.advance(1.5)
    await talk.token("y", finish="stop")
    await response.until(b'"y"')
    await talk.event({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}})
    await talk.end()
    await response.rest()
    (line,) = (await usage(served, http))["data"]
    assert (line["engine_seconds"], line["cost"]) == (3.5, "0.00035")


async def test_what_is_used_belongs_to_its_key_its_model_and_the_day_it_ends(
    serve: Any, engine: ScriptedServer, http: aiohttp.ClientSession
) -> None:
    clock = HandClock()
    clock.advance(1_764_028_740 - clock.time())  # 2025-11-24 23:59
    served = serve(engine, settings=priced(), engines=engines_of(engine.url), clock=clock)

    async def ask(key: str) -> None:
        await (await served.raw(chat(SCRIPT), "/v1/chat/completions", f"Authorization: Bearer {key}")).rest()

    await ask(ALICE)
    await ask(BOB)
    await served.sdk(api_key=BOB).embeddings.create(model="org/embeds", input="a")
    assert (await usage(served, http))["total"]["requests"] == 3
    clock.advance(61)
    await ask(BOB)
    await ask(BOB)
    told = await usage(served, http)
    lines = [(line["name"], line["model"], line["day"], line["requests"]) for line in told["data"]]
    first, second = "2025-11-24", "2025-11-25"
    assert sorted(lines) == [
        ("alice", "scripted", first, 1), ("bob", "embeds", first, 1), ("bob", "scripted", first, 1),
        ("bob", "scripted", second, 2),
    ]  # fmt: skip
    assert (told["total"]["requests"], told["currency"], told["from"], told["to"]) == (5, "USD", "2025-11-01", second)
    assert [line["requests"] for line in (await usage(served, http, "?group_by=key"))["data"]] == [1, 4]
    assert [line["day"] for line in (await usage(served, http, "?group_by=day&key=bob"))["data"]] == [first, second]
    assert (await usage(served, http, f"?model={MODEL}&from={second}"))["total"]["requests"] == 2
    assert (await usage(served, http, "?from=2025-10-01&to=2025-10-31"))["data"] == []
    assert [line["month"] for line in (await usage(served, http, "?group_by=month"))["data"]] == ["2025-11"]


@pytest.mark.slow
async def test_a_report_comes_in_pages_when_it_is_long(
    serve: Any, engine: ScriptedServer, http: aiohttp.ClientSession
) -> None:
    served = serve(engine, settings=priced(), engines=engines_of(engine.url))
    for key in (ALICE, BOB):
        await (await served.raw(chat(), "/v1/chat/completions", f"Authorization: Bearer {key}")).rest()
        await served.sdk(api_key=key).embeddings.create(model="org/embeds", input="a")
    seen: list[str] = []
    query = "?limit=3"
    while query:
        page = await usage(served, http, query)
        seen += [line["id"] for line in page["data"]]
        assert page["total"]["requests"] == 4
        query = f"?limit=3&after={page['last_id'].replace('/', '%2F')}" if page["has_more"] else ""
    assert len(seen) == len(set(seen)) == 4


async def test_only_an_admin_reads_of_all_and_everybody_of_themselves(
    serve: Any, engine: ScriptedServer, http: aiohttp.ClientSession
) -> None:
    served = serve(engine, settings=priced(budget=2.5), engines=engines_of(engine.url))
    for key in (ALICE, BOB, BOB):
        await (await served.raw(chat(SCRIPT), "/v1/chat/completions", f"Authorization: Bearer {key}")).rest()
    headers = {"Authorization": f"Bearer {ALICE}"}
    async with http.get(served.url + "/admin/usage", headers=headers) as refused:
        assert (refused.status, (await refused.json())["error"]["code"]) == (403, "insufficient_scope")
    async with http.get(served.url + "/v1/usage", headers=headers) as response:
        told = await response.json()
    assert (counted(told["total"]), told["data"][0]["model"]) == ((1, 0, 7, 3, 5), "scripted")
    assert told["budget"] == {"monthly_budget": "2.5", "spent": "0.0000375"}
    async with http.get(served.url + "/v1/usage", headers={"Authorization": f"Bearer {BOB}"}) as response:
        told = await response.json()
    assert (told["total"]["requests"], told["budget"]) == (2, None)


async def test_what_cannot_be_told_is_a_400(served: Served, http: aiohttp.ClientSession) -> None:
    for query in ("?from=2025-11-02&to=2025-11-01", "?from=yesterday", "?from=0", "?group_by=colour", "?limit=0"):
        async with http.get(f"{served.url}/admin/usage{query}") as response:
            assert response.status == 400


@pytest.mark.parametrize("price", ["-1", "0.0000001", "a lot"])
def test_a_price_is_a_decimal_of_at_most_six_places(price: str) -> None:
    with pytest.raises(ValueError, match="prompt_tokens"):
        Prices.model_validate(PRICES | {"prompt_tokens": price})
