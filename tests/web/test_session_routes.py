"""What callers see of their sessions: which there are, what they are called, how many, how long, and taken back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from tests.web.conftest import target_of
from tests.web.session_kit import SYSTEM, answer, ask, begin, configured, history, roll_back, turn

if TYPE_CHECKING:
    import aiohttp

    from functions.engines.scripted_server import ScriptedServer
    from tests.web.conftest import Json, Served
    from tests.web.doubles import HandClock, HandEngine


@pytest.fixture
def hand_served(serve: Any, hand_engine: HandEngine) -> Served:
    result: Served = serve(target_of(hand_engine.url, kind="sglang"), settings=configured())
    return result


async def test_requests_of_a_session_meet_the_same_engine_and_nobody_can_guess_which(
    hand_served: Served, hand_engine: HandEngine
) -> None:
    met = []
    for session in ("s", "s", "other"):
        response, talk = await begin(hand_served, hand_engine, turn(session=session))
        met.append(talk.headers["modal-session-id"])
        await answer(talk, "a")
        await response.rest()
    assert met[0] == met[1] != met[2]
    assert all(len(affinity) >= 32 and "s" not in affinity.strip("0123456789abcdef") for affinity in met)


async def test_more_sessions_than_may_be_are_refused(
    serve: Any, engine: ScriptedServer, http: aiohttp.ClientSession
) -> None:
    served = serve(engine, settings=configured(limits={"max_sessions": 2}))
    await ask(served, "q", session="a")
    await ask(served, "q", session="b")
    async with http.post(served.url + "/chat/completions", json=turn(session="c")) as response:
        assert response.status == 429
        assert 1 <= int(response.headers["retry-after"]) <= 60
        assert (await response.json())["error"]["code"] == "max_sessions_reached"
    await ask(served, "q", session="a")
    await http.delete(served.url + "/chat/history/b")
    await ask(served, "q", session="c")
    async with http.get(served.url + "/sessions") as listed:
        assert await listed.json() == ["c", "a"]


async def test_a_session_expires_after_its_last_turn(serve: Any, engine: ScriptedServer, clock: HandClock) -> None:
    served = serve(engine, settings=configured(limits={"session_ttl_seconds": 100}), clock=clock)
    await ask(served, "q0")
    clock.advance(99)
    await ask(served, "q1")
    clock.advance(99)
    assert len(await history(served)) == 5
    clock.advance(1)
    assert await history(served) == []


async def test_an_unknown_model_begins_no_session(served: Served, http: aiohttp.ClientSession) -> None:
    async with http.post(served.url + "/chat/completions", json={**turn(), "model-name": "no/such"}) as response:
        assert response.status == 404
    async with http.get(served.url + "/sessions") as listed:
        assert await listed.json() == []


@pytest.mark.parametrize(
    ("request_of", "left"), [({}, 4), ({"json": {}}, 4), ({"json": {"amount": 2}}, 3), ({"json": {"amount": 99}}, 1)]
)
async def test_rolling_back_removes_the_last_messages(served: Served, request_of: Json, left: int) -> None:
    await ask(served, "q0", "q1")
    assert await roll_back(served, **request_of) == (200, {"status": "ok"})
    assert len(await history(served)) == left
    assert (await history(served))[0] == SYSTEM


async def test_rolling_back_what_is_not_there_is_no_error(served: Served) -> None:
    assert await roll_back(served, "nobody") == (200, {"status": "ok"})


@pytest.mark.parametrize(
    "request_of",
    [
        {"json": {"amount": 0}},
        {"json": {"amount": "2"}},
        {"data": b"{", "headers": {"content-type": "application/json"}},
    ],
)
async def test_a_bad_rollback_is_a_nested_error(served: Served, request_of: Json) -> None:
    status, body = await roll_back(served, **request_of)
    assert (status, body["error"]["type"]) == (400, "invalid_request_error")


@pytest.mark.parametrize("session", ["a/b", "a b", "ä?#%2F&", "x/rollback", "日本", "/", "...", "%", "+"])
async def test_a_session_may_have_an_odd_name(served: Served, http: aiohttp.ClientSession, session: str) -> None:
    await ask(served, "q", session=session)
    async with http.get(served.url + "/sessions") as listed:
        assert await listed.json() == [session]
    assert len(await history(served, session)) == 3
    assert (await roll_back(served, session, json={"amount": 1}))[0] == 200
    assert len(await history(served, session)) == 2
    async with http.delete(f"{served.url}/chat/history/{quote(session, safe='')}") as response:
        assert response.status == 204
    assert await history(served, session) == []


async def test_a_session_that_is_not_there_is_empty_and_can_be_deleted(
    served: Served, http: aiohttp.ClientSession
) -> None:
    assert await history(served, "nobody") == []
    async with http.delete(served.url + "/chat/history/nobody") as response:
        assert response.status == 204
    async with http.post(served.url + "/chat/history/nobody") as response:
        assert response.status == 405
        assert "error" in await response.json()
