"""DynamoDB is down: who asks without a session is answered as ever, who asks with one is told so."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from tests.chaos.service import MODEL, Service, served, turn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.aws_kit import StateOfTest
    from tests.chaos.conftest import Faulty
    from tests.chaos.proxy import FaultProxy

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

KEY = "sk-of-the-configuration-0001"
BEARER = {"Authorization": f"Bearer {KEY}"}
WORDS: Any = [{"role": "user", "content": "hello"}]
SCRIPT = {"x_scripted": {"tokens": 2}}
STATELESS = {
    "/v1/chat/completions": {"model": MODEL, "messages": WORDS, **SCRIPT},
    "/v1/completions": {"model": MODEL, "prompt": "hello", **SCRIPT},
    "/v1/responses": {"model": MODEL, "input": "hello", "store": False, **SCRIPT},
    "/v1/messages": {"model": MODEL, "messages": WORDS, "max_tokens": 9, **SCRIPT},
    "/chat/completions": turn(None, "hello"),
}
WITH_A_SESSION = {
    "turn": ("POST", "/chat/completions", turn("s", "hello")),
    "list": ("GET", "/v1/sessions", None),
    "make": ("POST", "/v1/sessions", {}),
    "read": ("GET", "/v1/sessions/s", None),
    "change": ("PATCH", "/v1/sessions/s", {"title": "t"}),
    "fork": ("POST", "/v1/sessions/s/fork", {"messages": 1}),
    "delete": ("DELETE", "/v1/sessions/s", None),
    "the service's own list": ("GET", "/sessions", None),
    "history": ("GET", "/chat/history/s", None),
    "forget": ("DELETE", "/chat/history/s", None),
    "roll back": ("POST", "/chat/history/s/rollback", {"amount": 1}),
}


@pytest.fixture(scope="module")
def down(
    _moto_proxy: FaultProxy, _states: Callable[[FaultProxy], StateOfTest], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Faulty, Service]]:
    """Keys and limits are on, as in a deployment; an engine has started. From then on nothing of AWS answers."""
    from tests.chaos.conftest import emptied

    log: Path = tmp_path_factory.mktemp("down") / "log"
    settings = {
        "SECURITY__ENABLE_AUTH": "true", "SECURITY__API_KEYS": json.dumps([{"key": KEY, "name": "us"}]),
        "LIMITS__DEFAULT_RATE_LIMIT_PER_MINUTE": "1000", "LIMITS__DEFAULT_TOKENS_PER_MINUTE": "1000000",
    }  # fmt: skip
    with emptied(_moto_proxy, _states) as faulty, served(faulty, log, **settings) as service:
        for path, body in STATELESS.items():
            assert service.ask(path, body, **BEARER).status == 200, path
        yield faulty, service


@pytest.fixture(params=["refused", "broken"])
def service(request: pytest.FixtureRequest, down: tuple[Faulty, Service]) -> Iterator[Service]:
    faulty, service = down
    for aws in ("dynamodb", "s3"):
        faulty.proxy.plan("ServiceUnavailable" if request.param == "refused" else "reset", service=aws, times=None)
    yield service
    faulty.proxy.clear()


@pytest.mark.parametrize("path", STATELESS)
def test_who_asks_without_a_session_is_answered(service: Service, path: str) -> None:
    told = service.ask(path, STATELESS[path], **BEARER)
    assert told.status == 200, told
    assert "t0 t1" in told.text or "t0 \n" in told.text


def test_who_is_none_of_ours_is_refused_as_ever(service: Service) -> None:
    told = service.ask("/v1/chat/completions", STATELESS["/v1/chat/completions"], Authorization="Bearer sk-guessed")
    assert told.status in (401, 503), "a key of the configuration it is not; whether of the table nobody can say"
    assert "t0" not in told.text


@pytest.mark.parametrize("what", WITH_A_SESSION)
def test_who_asks_with_a_session_is_told_what_still_works(service: Service, what: str) -> None:
    method, path, body = WITH_A_SESSION[what]
    told = service.ask(path, body, method=method, **BEARER)
    assert told.status == 503, told
    error = told.json()["error"]
    assert error["code"] == "sessions_unavailable"
    assert "without a session" in error["message"]
    assert int(told.headers["retry-after"]) <= 60
    assert told.headers["x-should-retry"] == "true"


async def test_on_a_socket_a_turn_is_told_and_the_next_prompt_without_a_session_is_answered(service: Service) -> None:
    async with (
        aiohttp.ClientSession(headers=BEARER) as http,
        http.ws_connect(f"http://127.0.0.1:{service.port}/chat/ws") as socket,
    ):
        await socket.send_json(turn("s", "hello"))
        told = await socket.receive_str(timeout=60)
        assert told.startswith("__ERROR__:")
        assert "without a session" in told
        await socket.send_json(turn(None, "hello"))
        assert await socket.receive_str(timeout=60) == "t0 "


def test_the_service_is_ready_and_lists_its_models(service: Service) -> None:
    assert service.ask("/readiness").status == 200
    assert service.ask("/v1/models", **BEARER).status == 200
