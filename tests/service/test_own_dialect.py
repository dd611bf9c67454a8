"""The service's own routes through the whole path: the ingress, the ASGI bridge, the real application."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
import websockets
from websockets.asyncio.client import ClientConnection, connect

from tests.service.deployment import until

if TYPE_CHECKING:
    from tests.service.deployment import Service

pytestmark = [pytest.mark.any_containers, pytest.mark.slow]

SOON = 0.1
ATTEMPTS = 20
MODEL = "steady"


def ask(path: str, service: Service, body: Any = None, *, method: str | None = None) -> bytes:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(service.url + path, data=data, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        told: bytes = answer.read()
        return told


def prompt(**more: Any) -> dict[str, Any]:
    return {"model-name": MODEL, "prompt": "hello", **more}


async def socket_to(service: Service, query: str = "") -> ClientConnection:
    return await connect(service.url.replace("http", "ws") + "/chat/ws" + query)


async def hear(socket: ClientConnection) -> str:
    """The next frame that says something: an empty one is a sign of life."""
    async with asyncio.timeout(30):
        while not (frame := await socket.recv()):
            continue
    assert isinstance(frame, str)
    return frame


def test_a_chat_is_remembered_shown_rolled_back_and_forgotten(service: Service) -> None:
    turn = prompt(**{"session-id": "of / mine", "max-token": 2})
    for _ in range(2):
        events = ask("/chat/completions", service, turn).decode().split("\n\n")
        told = [event for event in events if not event.startswith(":")]  # it may have had to boot
        assert told == ["data: t0 ", "data: t1 ", "event: done\ndata:", ""]
    path = "/chat/history/of%20%2F%20mine"
    told = json.loads(ask(path, service))
    assert [message["role"] for message in told] == ["system", "user", "assistant", "user", "assistant"]
    assert json.loads(ask(path + "/rollback", service, {"amount": 2})) == {"status": "ok"}
    assert len(json.loads(ask(path, service))) == 3
    assert json.loads(ask("/sessions", service)) == ["of / mine"]
    assert ask(path, service, method="DELETE") == b""
    assert json.loads(ask(path, service)) == []


def test_a_completion_is_the_services_own(service: Service) -> None:
    told = json.loads(ask("/completions", service, {"model": MODEL, "prompt": "x", "max_tokens": 2}))
    assert (told["text"], told["tokens"]) == ("t0 t1 ", 2)


async def test_a_socket_carries_prompts_stops_errors_and_ends(service: Service) -> None:
    async with await socket_to(service, "?events=1") as socket:
        for _ in range(2):
            await socket.send(json.dumps(prompt(**{"max-token": 2})))
            frames = [json.loads(await hear(socket))]
            while frames[-1]["type"] != "end":
                frames.append(json.loads(await hear(socket)))
            assert "".join(frame["text"] for frame in frames if frame["type"] == "piece") == "t0 t1 "
        await socket.send("{")
        assert json.loads(await hear(socket))["error"]["code"] == "invalid_json"
    assert socket.close_code == 1000


async def test_stopping_and_vanishing_free_the_engine(service: Service) -> None:
    await asyncio.to_thread(ask, "/completions", service, {"model": MODEL, "prompt": "wake"})

    def state() -> Any:
        return service.ask_engine(MODEL, "/scripted/state")

    async def end(how: str) -> float:
        socket = await socket_to(service)
        await socket.send(json.dumps(prompt(x_scripted={"tokens": 5000, "gap": 0.02}, **{"max-token": 2000})))
        await hear(socket)
        ended = time.time()
        if how == "stop":
            await socket.send('{"type": "stop"}')
        else:
            socket.transport.abort()
        await asyncio.to_thread(until, lambda: state()["requests"][-1]["abort"] is not None)
        await asyncio.to_thread(until, lambda: state()["active"] == 0)
        last = state()["requests"][-1]
        if how == "stop":
            await socket.send(json.dumps(prompt(**{"max-token": 1})))
            while not (await hear(socket)).startswith("t0"):
                continue
        await socket.close()
        return float(max(last["abort"], last["closed"] or 0.0)) - ended

    for how in ("stop", "vanish"):
        times: list[float] = []
        while not times or (times[-1] >= SOON and len(times) < ATTEMPTS):
            times.append(await end(how))
        assert min(times) < SOON, (how, times)


async def test_a_page_of_another_path_is_refused(service: Service) -> None:
    try:
        await connect(service.url.replace("http", "ws") + "/chat/nowhere")
    except websockets.InvalidStatus as refused:
        assert refused.response.status_code in (403, 404)
    else:
        raise AssertionError("there is no such socket")
