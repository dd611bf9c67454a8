"""What every answer carries, whoever asks: the shape of errors, limits, CORS; and what no question may wake."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.conformance.targets import needs
from tests.conformance.wire import Connection, chat

if TYPE_CHECKING:
    from tests.conformance.targets import Target
    from tests.conformance.wire import Head

pytestmark = pytest.mark.slow

PLAIN = {"stream": False}
DURATION = re.compile(r"(\d+h)?(\d+m)?\d+(\.\d+)?(ms|s)")
PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/messages", "/v1/nothing")
WRONG: dict[str, dict[str, Any]] = {
    "no key": {"Authorization": None},
    "a wrong key": {"Authorization": "Bearer sk-wrong"},
    "a body that is no JSON": {},
    "a wrong media type": {"Content-Type": "application/xml"},
    "a compressed body": {"Content-Encoding": "gzip"},
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("wrong", WRONG)
def test_every_error_is_nested_as_its_dialect_nests_it(target: Target, path: str, wrong: str) -> None:
    if "key" in wrong:
        needs(target, "keys")
    if path in ("/v1/messages", "/v1/responses"):
        needs(target, path.removeprefix("/v1/"))
    with Connection(target) as connection:
        named = {name.replace("-", "_"): value for name, value in WRONG[wrong].items()}
        head = connection.ask(b"{no JSON", path, **named)
        assert_is_an_error(head, connection.body(head), path)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
def test_a_wrong_method_is_a_405_that_tells_the_right_one(target: Target, method: str) -> None:
    with Connection(target) as connection:
        connection.send(connection.head_of(method, "/v1/chat/completions"))
        head = connection.head()
        assert_is_an_error(head, connection.body(head), "")
        assert (head.status, "POST" in head.headers["allow"]) == (405, True)


def assert_is_an_error(head: Head, body: bytes, path: str) -> None:
    told = json.loads(body)
    assert 400 <= head.status < 500, told
    assert head.headers["content-type"].startswith("application/json")
    if path == "/v1/messages":
        assert set(told) >= {"type", "error", "request_id"}
        assert (told["type"], told["request_id"]) == ("error", head.headers["x-request-id"])
        assert set(told["error"]) >= {"type", "message"}
    else:
        assert set(told["error"]) == {"message", "type", "param", "code"}
        assert isinstance(told["error"]["type"], str)
    assert told["error"]["message"]
    assert "Traceback" not in told["error"]["message"]


def test_what_is_left_of_a_limit_is_told_with_every_answer_and_its_reset_as_a_duration(target: Target) -> None:
    needs(target, "keys")
    with Connection(target) as connection:
        for stream in (False, True):
            head = connection.ask(chat(target, {"tokens": 2}, stream=stream))
            connection.body(head)
            limit, remaining, reset = (
                head.headers[f"x-ratelimit-{word}-requests"] for word in ("limit", "remaining", "reset")
            )
            assert int(limit) > int(remaining) > 0
            assert DURATION.fullmatch(reset), reset


def test_a_limit_that_is_met_says_how_long_to_wait(target: Target) -> None:
    needs(target, "limits")
    if not target.limited_keys:
        pytest.skip("no limited key is left")
    key = f"Bearer {target.limited_keys.pop()}"
    with Connection(target) as connection:
        for _ in range(20):
            head = connection.ask(chat(target, {"tokens": 1}, **PLAIN), Authorization=key)
            told = json.loads(connection.body(head))
            if head.status == 429:
                break
        assert (head.status, told["error"]["code"]) == (429, "rate_limit_exceeded")
        assert told["error"]["type"] in ("requests", "tokens")
        assert 1 <= int(head.headers["retry-after"]) <= 60
        assert DURATION.fullmatch(head.headers["x-ratelimit-reset-requests"])


def test_a_full_engine_says_that_and_when_to_come_again(target: Target) -> None:
    needs(target, "scripted")
    with Connection(target) as connection:
        head = connection.ask(chat(target, {}, model="full", **PLAIN))
        told = json.loads(connection.body(head))["error"]
        assert (head.status, told["code"]) == (503, "server_is_overloaded")
        assert told["type"] == "service_unavailable_error"
        assert 1 <= int(head.headers["retry-after"]) <= 60
        assert head.headers["x-should-retry"] == "true"


ORIGIN = "https://page.example"


def test_a_preflight_needs_no_key_and_allows_what_sdks_send(target: Target) -> None:
    wanted = "authorization,content-type,x-stainless-lang,x-stainless-retry-count,openai-organization,idempotency-key"
    told = {
        "Authorization": None, "Origin": ORIGIN, "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": wanted,
    }  # fmt: skip
    with Connection(target) as connection:
        connection.send(connection.head_of("OPTIONS", "/v1/chat/completions", told))
        head = connection.head()
        connection.body(head)
    assert head.status in (200, 204)
    assert head.headers["access-control-allow-origin"] in ("*", ORIGIN)
    assert "access-control-allow-credentials" not in head.headers
    allowed = {name.strip().lower() for name in head.headers["access-control-allow-headers"].split(",")}
    assert set(wanted.split(",")) <= allowed


def test_answers_and_errors_of_every_kind_may_be_read_by_a_page(target: Target) -> None:
    asked: list[tuple[Any, str, dict[str, str]]] = [
        (chat(target, {"tokens": 1}, **PLAIN), "/v1/chat/completions", {}),
        (chat(target, {"tokens": 1}), "/v1/chat/completions", {}),
        (b"{", "/v1/chat/completions", {}),
        (b"{}", "/v1/nothing", {}),
    ]
    if "keys" in target.features:
        asked.append((b"{}", "/v1/chat/completions", {"Authorization": "Bearer sk-wrong"}))
    for body, path, headers in asked:
        with Connection(target) as connection:
            head = connection.ask(body, path, Origin=ORIGIN, **headers)
            connection.body(head)
        assert head.headers["access-control-allow-origin"] in ("*", ORIGIN), (path, head)
        exposed = head.headers["access-control-expose-headers"].lower()
        for name in ("x-request-id", "x-ratelimit-remaining-requests", "retry-after", "openai-processing-ms"):
            assert name in exposed


def test_looking_at_models_health_and_sessions_wakes_no_engine(target: Target) -> None:
    needs(target, "cold", "scripted")
    with Connection(target) as connection:
        connection.body(connection.ask(b"", "/models/cold/unload"))
        for path in ("/v1/models", "/v1/models/cold", "/models", "/models/scripted/cold", "/health", "/readiness",
                     "/sessions", "/metrics", "/"):  # fmt: skip
            head = connection.get(path)
            connection.body(head)
            assert head.status == 200, path
        time.sleep(0.2)
        assert json.loads(connection.body(connection.get("/v1/models/cold")))["state"] == "cold"


def test_a_models_state_is_told_while_it_boots_and_once_it_is_there(target: Target) -> None:
    needs(target, "cold", "scripted")
    with Connection(target) as looks, Connection(target) as asks:
        looks.body(looks.ask(b"", "/models/cold/unload"))
        asks.send(asks.request(chat(target, {"tokens": 1}, model="cold")))
        seen: list[str] = []
        began = time.monotonic()
        while "ready" not in seen and time.monotonic() - began < 30:
            told = json.loads(looks.body(looks.get("/v1/models/cold")))
            seen += [told["state"]] if told["state"] not in seen[-1:] else []
        assert [state for state in seen if state != "cold"] == ["booting", "ready"]
        assert b"[DONE]" in asks.body(asks.head())


def test_names_of_models_hold_slashes_wherever_a_model_is_named(target: Target) -> None:
    needs(target, "scripted")
    with Connection(target) as connection:
        for path in (f"/v1/models/{target.model}", f"/v1/models/{target.model.replace('/', '%2F')}"):
            head = connection.get(path)
            assert (head.status, json.loads(connection.body(head))["object"]) == (200, "model")
        assert connection.ask(chat(target, {"tokens": 1}, **PLAIN)).status == 200
