"""`/admin/keys`, and what the keys that are made there may do, over real sockets and with real clients."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any

import aiohttp
import openai
import pytest

from infra.access import KeyTerms
from infra.aws import StateUnavailable
from infra.key_records import new_key
from infra.key_store import KeysInMemory, KeyStore
from infra.key_table import KeysInTable
from tests.web.conftest import MODEL, chat
from tests.web.doubles import HandClock
from tests.web.key_kit import ROOT, Administrator, with_keys
from tests.web.socket_kit import connected, prompt
from web.clock import RealClock

if TYPE_CHECKING:
    from functions.engines.scripted_server import ScriptedServer
    from tests.aws_kit import StateOfTest
    from tests.web.conftest import Serve, Served

pytestmark = pytest.mark.slow

HELLO: Any = [{"role": "user", "content": "hi"}]


@pytest.fixture
def store(request: pytest.FixtureRequest) -> KeyStore:
    if getattr(request, "param", "memory") == "memory":
        return KeysInMemory()
    state: StateOfTest = request.getfixturevalue("aws_state")
    return KeysInTable(state.table, time=RealClock.time)


both_stores = pytest.mark.parametrize("store", ["memory", "table"], indirect=True)


@pytest.fixture
def locked(serve: Serve, engine: ScriptedServer, store: KeyStore) -> Served:
    result: Served = serve(engine, settings=with_keys(), keys=store)
    return result


@pytest.fixture
def admin(http: aiohttp.ClientSession, locked: Served) -> Administrator:
    return Administrator(http, locked.url)


async def ask(served: Served, key: str, *, model: str = MODEL) -> Any:
    async with served.sdk(api_key=key) as client:
        return await client.chat.completions.create(model=model, messages=HELLO, max_tokens=3)


async def status_of(http: aiohttp.ClientSession, served: Served, key: str, path: str = "/v1/models") -> int:
    async with http.get(served.url + path, headers={"x-api-key": key}) as response:
        return response.status


@both_stores
async def test_a_key_is_made_told_once_used_and_revoked(admin: Administrator, locked: Served) -> None:
    made = await admin.make("ci", labels={"team": "a"}, monthly_budget=2)
    secret = made.pop("key")
    assert made | {"id": "", "created_at": 0} == {
        "id": "", "object": "api_key", "name": "ci", "hint": secret[-4:], "status": "active",
        "scopes": ["inference"], "models": [], "rate_limit_per_minute": None, "tokens_per_minute": None,
        "monthly_budget": 2.0, "labels": {"team": "a"}, "created_at": 0, "expires_at": None, "last_used_at": None,
        "rotated_at": None, "former_key_until": None, "revoked_at": None,
    }  # fmt: skip
    answer = await ask(locked, secret)
    assert answer.choices[0].message.content
    shown = await admin("GET", made["id"])
    assert secret not in json.dumps([shown, await admin("GET")])
    assert await admin("DELETE", made["id"]) == {"id": made["id"], "object": "api_key.revoked", "revoked": True}
    with pytest.raises(openai.AuthenticationError) as caught:
        await ask(locked, secret)
    assert caught.value.code == "invalid_api_key"
    revoked = await admin("GET", made["id"])
    assert (revoked["status"], revoked["revoked_at"] >= made["created_at"]) == ("revoked", True)
    for request in (("DELETE", made["id"]), ("PATCH", made["id"]), ("POST", made["id"], "rotate")):
        assert (await admin(*request, status=409))["error"]["code"] == "key_revoked"


async def test_a_keys_scopes_models_and_limits_are_its_own(admin: Administrator, locked: Served) -> None:
    reader = await admin.make(scopes=["metrics"])
    with pytest.raises(openai.PermissionDeniedError) as scope:
        await ask(locked, reader["key"])
    assert scope.value.code == "insufficient_scope"
    limited = await admin.make(models=["scripted"], rate_limit_per_minute=2)
    for _ in range(2):
        await ask(locked, limited["key"])
    with pytest.raises(openai.RateLimitError) as rate:
        await ask(locked, limited["key"])
    assert rate.value.code == "rate_limit_exceeded"
    other = await admin.make(models=[MODEL])
    with pytest.raises(openai.NotFoundError):
        await ask(locked, other["key"], model="another")


async def test_a_limit_that_is_changed_counts_while_the_key_is_in_use(admin: Administrator, locked: Served) -> None:
    made = await admin.make(rate_limit_per_minute=1)
    await ask(locked, made["key"])
    await admin("PATCH", made["id"], body={"rate_limit_per_minute": 2, "tokens_per_minute": 10**6})
    await ask(locked, made["key"])
    with pytest.raises(openai.RateLimitError):
        await ask(locked, made["key"])
    await admin("PATCH", made["id"], body={"rate_limit_per_minute": None, "tokens_per_minute": 1})
    with pytest.raises(openai.RateLimitError) as tokens:
        await ask(locked, made["key"])
    assert tokens.value.type == "tokens"
    await admin("PATCH", made["id"], body={"tokens_per_minute": None})
    await ask(locked, made["key"])


async def test_who_lacks_the_scope_administers_nothing(
    admin: Administrator, locked: Served, http: aiohttp.ClientSession
) -> None:
    made = await admin.make()
    plain = Administrator(http, locked.url, made["key"])
    for method, *path in (("GET",), ("POST",), ("GET", made["id"]), ("PATCH", made["id"]), ("DELETE", made["id"]),
                          ("POST", made["id"], "rotate")):  # fmt: skip
        told = await plain(method, *path, body={"name": "x"} if path != ["rotate"] else None, status=403)
        assert told["error"]["code"] == "insufficient_scope"
    assert (await admin("GET", made["id"]))["status"] == "active"


@both_stores
async def test_a_rotated_key_stays_itself_and_its_former_secret_ends(admin: Administrator, locked: Served) -> None:
    made = await admin.make()
    rotated = await admin("POST", made["id"], "rotate", body={"grace_seconds": 3600})
    assert (rotated["id"], rotated["hint"]) == (made["id"], rotated["key"][-4:])
    assert rotated["former_key_until"] == pytest.approx(rotated["rotated_at"] + 3600, abs=1)
    for secret in (made["key"], rotated["key"]):
        await ask(locked, secret)
    again = await admin("POST", made["id"], "rotate")
    assert again["former_key_until"] is None
    for secret in (made["key"], rotated["key"]):
        with pytest.raises(openai.AuthenticationError):
            await ask(locked, secret)
    await ask(locked, again["key"])


async def test_what_is_changed_is_changed_and_nothing_else(admin: Administrator, locked: Served) -> None:
    made = await admin.make(rate_limit_per_minute=5, labels={"a": "b"}, expires_at=4_000_000_000)
    secret = made.pop("key")
    await ask(locked, secret)
    changed = await admin("PATCH", made["id"], body={"scopes": ["metrics"], "rate_limit_per_minute": None})
    assert changed == {**made, "scopes": ["metrics"], "rate_limit_per_minute": None,
                       "last_used_at": changed["last_used_at"]}  # fmt: skip
    with pytest.raises(openai.PermissionDeniedError):
        await ask(locked, secret)
    ended = await admin("PATCH", made["id"], body={"expires_at": 1})
    assert ended["status"] == "expired"
    with pytest.raises(openai.AuthenticationError):
        await ask(locked, secret)
    again = await admin("PATCH", made["id"], body={"expires_at": None, "scopes": ["inference"], "labels": {}})
    assert (again["status"], again["labels"]) == ("active", {})
    await ask(locked, secret)


@both_stores
async def test_keys_are_listed_in_pages(admin: Administrator) -> None:
    made = [(await admin.make(f"k{n}"))["id"] for n in range(3)]
    ids = sorted(made, reverse=True)
    page = await admin("GET", limit=2)
    assert ([one["id"] for one in page["data"]], page["has_more"]) == (ids[:2], True)
    assert (page["object"], page["first_id"], page["last_id"]) == ("list", *ids[:2])
    rest = await admin("GET", limit=2, after=page["last_id"])
    assert ([one["id"] for one in rest["data"]], rest["has_more"]) == (ids[2:], False)
    assert (await admin("GET", after="x", status=400))["error"]["param"] == "after"


async def test_nobody_takes_the_key_from_himself_unawares(
    admin: Administrator, locked: Served, http: aiohttp.ClientSession
) -> None:
    made = await admin.make("boss", scopes=["admin"])
    boss = Administrator(http, locked.url, made["key"])
    for method, body in (("DELETE", None), ("PATCH", {"scopes": ["inference"]}), ("PATCH", {"expires_at": 1})):
        told = await boss(method, made["id"], body=body, status=409)
        assert told["error"]["code"] == "own_key"
    assert (await boss("PATCH", made["id"], body={"name": "chief"}))["name"] == "chief"
    await boss("DELETE", made["id"], force="true")
    await boss("GET", status=401)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "name"), ({"name": ""}, "name"), ({"name": "a\nb"}, "name"),
        ({"name": "k", "scopes": ["root"]}, "scopes[0]"),
        ({"name": "k", "models": ["scripted", "none"]}, "models[1]"), ({"name": "k", "key": "sk-mine"}, "key"),
        ({"name": "k", "monthly_budget": 0}, "monthly_budget"), ({"name": "k", "expires_at": 5}, "expires_at"),
        ({"name": "k", "rate_limit_per_minute": 0}, "rate_limit_per_minute"),
    ],
)  # fmt: skip
async def test_what_is_wrong_is_named(serve: Serve, engine: ScriptedServer, body: Any, param: str) -> None:
    served = serve(engine, settings=with_keys(), keys=KeysInMemory())
    async with aiohttp.ClientSession() as http:
        told = await Administrator(http, served.url)("POST", body=body, status=400)
    assert told["error"]["param"] == param


async def test_a_key_that_is_not_there_is_not_found(admin: Administrator) -> None:
    for key_id in ("key_" + "0" * 24, "x", "x" * 3000):
        for request in (("GET", key_id), ("DELETE", key_id), ("POST", key_id, "rotate")):
            assert (await admin(*request, status=404))["error"]["code"] == "key_not_found"


async def test_the_log_says_who_did_what_and_holds_no_key(
    admin: Administrator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    made = await admin.make("ci")
    rotated = await admin("POST", made["id"], "rotate")
    await admin("DELETE", made["id"])
    lines = [record.getMessage() for record in caplog.records if made["id"] in record.getMessage()]
    assert [what in line for what, line in zip(("made", "rotated", "revoked"), lines, strict=True)] == [True] * 3
    assert all("'root'" in line for line in lines)
    for secret in (made["key"], rotated["key"], ROOT):
        assert secret not in caplog.text


async def test_without_auth_nobody_makes_a_key_for_later(serve: Serve, engine: ScriptedServer) -> None:
    served = serve(engine, keys=KeysInMemory())
    async with aiohttp.ClientSession() as http:
        told = await Administrator(http, served.url)("POST", body={"name": "k", "scopes": ["admin"]}, status=501)
        assert "enable_auth" in told["error"]["message"]
        locked = serve(engine, settings=with_keys())
        told = await Administrator(http, locked.url)("GET", status=501)
        assert "state.kind" in told["error"]["message"]


async def test_a_key_that_is_revoked_over_there_is_refused_here_within_ten_seconds(
    serve: Serve, engine: ScriptedServer, aws_state: StateOfTest, clock: HandClock, http: aiohttp.ClientSession
) -> None:
    def application() -> Served:
        store = KeysInTable(aws_state.table, time=clock.time)
        served: Served = serve(engine, settings=with_keys(static=False), keys=store, clock=clock)
        return served

    here, there = application(), application()
    await KeysInTable(aws_state.table, time=clock.time).create((first := _made(clock))[0])
    admin = Administrator(http, there.url, first[1])
    made = await admin.make()
    assert await status_of(http, here, made["key"]) == 200
    clock.advance(2)
    await admin("DELETE", made["id"])
    assert await status_of(http, there, made["key"]) == 401
    clock.advance(9.99)
    assert await status_of(http, here, made["key"]) == 401


async def test_a_websocket_that_is_open_outlives_its_key_without_answers(
    admin: Administrator, locked: Served, http: aiohttp.ClientSession
) -> None:
    made = await admin.make()
    headers = {"Authorization": f"Bearer {made['key']}"}
    async with connected(locked, "?events=1", additional_headers=headers) as client:

        async def answered() -> str:
            await client.say(prompt())
            while (told := await client.told())["type"] not in ("end", "error"):
                continue
            return str(told.get("finish_reason") or told["error"]["code"])

        assert await answered() in ("stop", "length")
        await admin("DELETE", made["id"])
        assert await answered() == "invalid_api_key"
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await http.ws_connect(f"{locked.url}/chat/ws", headers=headers)
    assert refused.value.status == 401


async def test_a_busy_key_costs_next_to_no_calls_of_aws(
    serve: Serve, engine: ScriptedServer, aws_state: StateOfTest, http: aiohttp.ClientSession, clock: HandClock
) -> None:
    store = KeysInTable(aws_state.table, time=clock.time)
    record, secret = _made(clock)
    await store.create(record)
    served = serve(engine, settings=with_keys(static=False), keys=store, clock=clock)
    aws_state.calls.clear()
    for _ in range(100):
        clock.advance(0.5)
        assert await status_of(http, served, secret) == 200
    assert len(aws_state.calls) < 10, aws_state.calls
    aws_state.calls.clear()
    static = serve(engine, settings=with_keys(), keys=store, clock=clock)
    for path in ("/v1/models", "/health"):
        assert await status_of(http, static, ROOT, path) == 200
    assert await status_of(http, static, secret, "/health") == 200
    assert await status_of(http, static, "sk-unknown-0123456789") == 401
    assert aws_state.calls == []


async def test_while_the_table_is_down_static_and_known_keys_work_and_others_are_told_to_wait(
    serve: Serve, engine: ScriptedServer, http: aiohttp.ClientSession, clock: HandClock
) -> None:
    store = KeysInMemory()
    (record, known), (other, unknown) = _made(clock), _made(clock)
    await store.create(record)
    await store.create(other)
    served = serve(engine, settings=with_keys(), keys=store, clock=clock)
    assert await status_of(http, served, known) == 200

    async def fails(*_: Any, **__: Any) -> Any:
        raise StateUnavailable("down")

    store.find = store.page = fails  # type: ignore[method-assign]
    clock.advance(60)
    assert [await status_of(http, served, key) for key in (ROOT, known)] == [200, 200]
    async with served.sdk(api_key=unknown) as client:
        with pytest.raises(openai.InternalServerError) as caught:
            await client.models.list()
    assert (caught.value.status_code, caught.value.code) == (503, "keys_unavailable")
    assert caught.value.response.headers["x-should-retry"] == "true"
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await http.ws_connect(f"{served.url}/chat/ws", headers={"x-api-key": unknown})
    assert refused.value.status == 503
    told = await Administrator(http, served.url)("GET", status=503)
    assert told["error"]["code"] == "keys_unavailable"


async def test_many_at_once_with_a_new_key_are_all_served(admin: Administrator, locked: Served) -> None:
    secret = (await admin.make())["key"]
    responses = [await locked.raw(chat(), "/v1/chat/completions", f"x-api-key: {secret}") for _ in range(30)]
    heads = await asyncio.gather(*(response.head() for response in responses))
    assert {status for status, _ in heads} == {200}
    for response in responses:
        response.leave()


def _made(clock: HandClock) -> Any:
    return new_key(KeyTerms(name="first", scopes=("admin", "inference")), labels={}, now=clock.time())
