"""Keys: who may ask, what the others are told, and what never leaks."""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import aiohttp
import anthropic
import openai
import pytest

from infra.keys import fingerprint
from infra.settings import ApiKey, Limits, Security, Settings
from tests.configured_engines import ConfiguredEngines
from tests.web.conftest import MODEL, chat, settings_with
from tests.web.test_errors import error_of
from web.application import Services, create_application
from web.auth import Keyring, accepted_subprotocol, decide, presented_key, require_scope
from web.caller import Caller
from web.engines import EngineTarget
from web.errors import KeyRefused, PermissionDenied

if TYPE_CHECKING:
    from functions.engines.scripted_server import ScriptedServer
    from tests.web.conftest import Served
    from tests.web.doubles import HandEngine

PLAIN = "sk-inference-0123456789"
ADMIN = "sk-admin-0123456789"
DISABLED = "sk-disabled-0123456789"
OTHER_MODEL = "sk-other-model-0123456789"
KEYS = (
    ApiKey(key=PLAIN, name="plain"),
    ApiKey(key=ADMIN, name="admin", scopes=("admin", "metrics")),
    ApiKey(key=DISABLED, name="disabled", enabled=False),
    ApiKey(key=OTHER_MODEL, name="other", models=("another",)),
)
HELLO: Any = [{"role": "user", "content": "hi"}]


def guarded(**security: Any) -> Settings:
    options = {"enable_auth": True, "api_keys": KEYS, **security}
    return settings_with().model_copy(update={"security": Security(**options)})


@pytest.fixture
def locked(serve: Any, engine: ScriptedServer) -> Served:
    """The application with keys on."""
    result: Served = serve(engine, settings=guarded())
    return result


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


# What is decided, without a socket.

RING = Keyring(KEYS)


def decided(key: str | None, path: str, *, asked: bool = True) -> Caller:
    found = RING.find(key, now=0.0) if key is not None else None
    return decide(found, asked=asked, path=path, address=lambda: "10.0.0.1")


@pytest.mark.parametrize(
    "key", [None, "", "sk-unknown-0123456789", DISABLED, PLAIN + " ", PLAIN[:-1], fingerprint(PLAIN)]
)
def test_without_a_key_that_is_enabled_nothing_but_the_public_is_open(key: str | None) -> None:
    for path in ("/v1/models", "/v1/chat/completions", "/models", "/metrics", "/healthy", "/v1/health", "/nothing"):
        with pytest.raises(KeyRefused):
            decided(key, path)
    for path in ("/", "/health", "/readiness", "/openapi.json", "/static/page.js"):
        caller = decided(key, path)
        assert (caller.identity, caller.scopes) == ("ip:10.0.0.1", frozenset())


def test_of_thousands_of_other_keys_none_is_taken_for_one() -> None:
    assert all(RING.find(f"sk-other-{number:08d}", now=0.0) is None for number in range(5000))


def test_a_key_is_its_caller() -> None:
    caller = decided(OTHER_MODEL, "/v1/models")
    assert (caller.name, caller.scopes, caller.models) == ("other", {"inference"}, {"another"})
    assert caller.identity == "key:" + fingerprint(OTHER_MODEL)[7:23]


def test_a_key_ends_when_its_configuration_says() -> None:
    ring = Keyring([ApiKey(key=PLAIN, name="plain", expires_at=datetime.fromtimestamp(1000, UTC))])
    assert ring.find(PLAIN, now=999.9) is not None
    assert ring.find(PLAIN, now=1000.0) is None


def test_without_keys_everybody_may_do_everything() -> None:
    caller = decided(None, "/v1/models", asked=False)
    for scope in ("inference", "admin", "metrics"):
        require_scope(caller, scope)  # type: ignore[arg-type]


def test_a_scope_that_a_key_lacks_is_named() -> None:
    with pytest.raises(PermissionDenied, match="lacks the scope 'admin'"):
        require_scope(Caller(identity="key:x", scopes=frozenset({"inference"})), "admin")


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ([], None),
        ([("authorization", "Bearer sk-a")], "sk-a"),
        ([("authorization", "bearer  sk-a ")], "sk-a"),
        ([("authorization", "Basic c2stYQ==")], None),
        ([("authorization", "Bearer")], None),
        ([("authorization", "sk-a")], None),
        ([("x-api-key", "sk-a")], "sk-a"),
        ([("authorization", "Bearer sk-a"), ("x-api-key", "sk-b")], "sk-a"),
        ([("authorization", "Basic x"), ("x-api-key", "sk-b")], "sk-b"),
    ],
)
def test_where_a_key_is_looked_for(headers: list[tuple[str, str]], key: str | None) -> None:
    raw = [(name.encode(), value.encode()) for name, value in headers]
    assert presented_key({"type": "http", "headers": raw, "query_string": b"api_key=sk-q"}) == key


def test_a_browsers_websocket_offers_its_key_as_a_subprotocol_which_no_answer_repeats() -> None:
    scope = {"type": "websocket", "headers": [], "subprotocols": ["openai-insecure-api-key.sk-a", "chat"]}
    assert (presented_key(scope), accepted_subprotocol(scope)) == ("sk-a", "chat")
    scope["subprotocols"] = ["openai-insecure-api-key.sk-a"]
    assert accepted_subprotocol(scope) is None


def test_keys_without_any_enabled_one_stop_the_start() -> None:
    settings = guarded(api_keys=(ApiKey(key=DISABLED, name="off", enabled=False),))
    engines = ConfiguredEngines(settings.models, {"scripted": EngineTarget(url="", kind="scripted", model="m")})
    with pytest.raises(ValueError, match="no API key is enabled"):
        create_application(Services(settings=settings, engines=engines))


def test_settings_hold_no_key() -> None:
    everything = repr(guarded()) + guarded().model_dump_json()
    assert PLAIN not in everything
    assert fingerprint(PLAIN) in guarded().model_dump_json()


# On the wire.


async def test_a_missing_a_wrong_and_a_disabled_key_are_told_the_same(
    locked: Served, http: aiohttp.ClientSession
) -> None:
    told = set()
    for headers in ({}, bearer("sk-unknown-0123456789"), bearer(DISABLED), {"x-api-key": "no"}, {"Authorization": "x"}):
        async with http.post(locked.url + "/v1/chat/completions", json=chat(), headers=headers) as response:
            assert (response.status, response.headers["www-authenticate"]) == (401, "Bearer")
            assert "x-ratelimit-limit-requests" not in response.headers
            error = error_of(await response.text())
            assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_api_key")
            told.add(json.dumps(error))
    assert len(told) == 1


async def test_what_is_public_needs_no_key(locked: Served, http: aiohttp.ClientSession) -> None:
    for path in ("/", "/health", "/readiness", "/openapi.json"):
        async with http.get(locked.url + path, headers=bearer("wrong-0123456789")) as response:
            assert response.status == 200, path
    for path in ("/v1/models", "/models", "/metrics", "/sessions", "/nothing"):
        async with http.get(locked.url + path) as response:
            assert response.status == 401, path


async def test_a_preflight_needs_no_key_and_a_401_carries_cors_headers(
    locked: Served, http: aiohttp.ClientSession
) -> None:
    origin = {"Origin": "https://page.example"}
    asks = {**origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    async with http.options(locked.url + "/v1/chat/completions", headers=asks) as response:
        assert response.status == 200
        assert "authorization" in response.headers["access-control-allow-headers"].lower()
    async with http.post(locked.url + "/v1/chat/completions", json=chat(), headers=origin) as response:
        assert (response.status, response.headers["access-control-allow-origin"]) == (401, "*")


async def test_openais_sdk_raises_what_it_has_for_each(locked: Served) -> None:
    with pytest.raises(openai.AuthenticationError) as caught:
        await locked.sdk().chat.completions.create(model=MODEL, messages=HELLO)
    assert caught.value.code == "invalid_api_key"
    with pytest.raises(openai.PermissionDeniedError) as denied:
        await locked.sdk().with_options(api_key=ADMIN).chat.completions.create(model=MODEL, messages=HELLO)
    assert denied.value.code == "insufficient_scope"
    with pytest.raises(openai.PermissionDeniedError) as other:
        await locked.sdk().with_options(api_key=OTHER_MODEL).chat.completions.create(model=MODEL, messages=HELLO)
    assert (other.value.code, other.value.param) == ("model_not_allowed", "model")
    answer = await locked.sdk().with_options(api_key=PLAIN).chat.completions.create(model=MODEL, messages=HELLO)
    assert answer.choices[0].message.content


async def test_anthropics_sdk_is_served_by_its_own_header_and_told_in_its_own_words(locked: Served) -> None:
    def client(key: str) -> anthropic.AsyncAnthropic:
        return anthropic.AsyncAnthropic(base_url=locked.url, api_key=key, max_retries=0)

    message = await client(PLAIN).messages.create(model=MODEL, max_tokens=5, messages=HELLO)
    assert message.role == "assistant"
    with pytest.raises(anthropic.AuthenticationError) as caught:
        await client("sk-unknown-0123456789").messages.create(model=MODEL, max_tokens=5, messages=HELLO)
    assert caught.value.body["error"]["type"] == "authentication_error"  # type: ignore[index]


async def test_the_openapi_document_says_where_a_key_is_needed(
    locked: Served, served: Served, http: aiohttp.ClientSession
) -> None:
    async with http.get(locked.url + "/openapi.json") as response:
        document = await response.json()
    schemes = document["components"]["securitySchemes"]
    assert {(scheme["type"], scheme.get("scheme", scheme.get("name"))) for scheme in schemes.values()} == {
        ("http", "bearer"), ("apiKey", "x-api-key"),
    }  # fmt: skip
    assert document["security"] == [{name: []} for name in schemes]
    operations = {path: next(iter(methods.values())) for path, methods in document["paths"].items()}
    assert {path for path, operation in operations.items() if operation.get("security") == []} == {
        "/health", "/readiness",
    }  # fmt: skip
    async with http.get(served.url + "/openapi.json") as response:
        assert "security" not in await response.json()


async def test_metrics_and_administration_need_their_scopes(locked: Served, http: aiohttp.ClientSession) -> None:
    async def status(method: str, path: str, key: str) -> int:
        async with http.request(method, locked.url + path, headers=bearer(key)) as response:
            return response.status

    assert await status("GET", "/metrics", PLAIN) == 403
    assert await status("GET", "/metrics", ADMIN) == 200
    assert await status("POST", "/models/scripted/load", PLAIN) == 403
    assert await status("POST", "/models/scripted/load", ADMIN) != 403


async def test_a_websocket_without_a_key_is_refused_in_its_handshake(
    locked: Served, http: aiohttp.ClientSession
) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await http.ws_connect(locked.url + "/chat/ws")
    assert caught.value.status == 401
    async with http.ws_connect(locked.url + "/chat/ws", headers=bearer(PLAIN)):
        pass
    offered = ("chat", f"openai-insecure-api-key.{PLAIN}")
    async with http.ws_connect(locked.url + "/chat/ws", protocols=offered) as socket:
        assert socket.protocol == "chat"


async def test_neither_side_sees_the_others_key(serve: Any, hand_engine: HandEngine, caplog: Any) -> None:
    caplog.set_level(logging.DEBUG)
    secret = {"Authorization": "Bearer engine-secret-0123"}
    target = EngineTarget(url=hand_engine.url, kind="scripted", model="served-name", headers=secret)
    served = serve(target, settings=guarded())
    lines = [f"Authorization: Bearer {PLAIN}", f"x-api-key: {PLAIN}", f"Cookie: key={PLAIN}", "Modal-Key: mine"]
    response = await served.raw(chat(), "/v1/chat/completions", *lines)
    talk = await hand_engine.next()
    told = {"error": {"message": "no", "code": 400, "headers": "Bearer engine-secret-0123"}}
    await talk.answer(400, json.dumps(told).encode(), x_engine_secret="engine-secret-0123")
    heard = str(talk.headers) + talk.body.decode()
    answer = (await response.rest()).decode()
    assert "HTTP/1.1 400" in answer
    assert "engine-secret-0123" in heard
    assert "cookie" not in heard.lower()
    assert "modal-key" not in heard.lower()
    assert PLAIN not in heard
    assert "engine-secret" not in answer
    assert PLAIN not in caplog.text


async def test_a_key_has_a_limit_of_its_own_and_the_headers_say_so(
    serve: Any, engine: ScriptedServer, http: aiohttp.ClientSession
) -> None:
    keys = (ApiKey(key=PLAIN, name="a", rate_limit_per_minute=2), ApiKey(key=ADMIN, name="b"))
    settings = guarded(api_keys=keys).model_copy(update={"limits": Limits(default_rate_limit_per_minute=7)})
    served = serve(engine, settings=settings)
    told = []
    for key in (PLAIN, PLAIN, PLAIN, ADMIN):
        async with http.post(served.url + "/v1/completions", json={"model": MODEL, "prompt": "x"},
                             headers=bearer(key)) as response:  # fmt: skip
            told.append((response.status, response.headers["x-ratelimit-limit-requests"],
                         response.headers["x-ratelimit-remaining-requests"]))  # fmt: skip
    assert told == [(200, "2", "1"), (200, "2", "0"), (429, "2", "0"), (200, "7", "6")]


async def test_a_refused_client_who_is_still_sending_reads_its_answer(locked: Served) -> None:
    """Without `Connection: keep-alive` a server would close under it, and a reset would destroy the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", locked.port)
    size = 8_000_000
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Length: {size}\r\n\r\n"
    writer.write(head.encode())
    for _ in range(80):
        writer.write(b" " * (size // 80))
        await writer.drain()
        await asyncio.sleep(0)
    async with asyncio.timeout(20):
        answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"invalid_api_key" in answer
    writer.close()
