"""A caller that leaves frees the engine, through the whole path: upstream closed and abort sent within 100 ms."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from tests.service.deployment import until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.service.deployment import Service

pytestmark = [pytest.mark.any_containers, pytest.mark.slow]

SOON = 0.1
"""Seconds within which the engine must be free."""
ATTEMPTS = 20
"""A noisy machine may spoil some measurements: one that meets the limit shows that the path does."""


async def connect(service: Service, body: dict[str, Any]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send a chat request over a socket of our own."""
    address = urlsplit(service.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    data = json.dumps(body).encode()
    head = ["POST /v1/chat/completions HTTP/1.1", "host: x", "content-type: application/json"]
    writer.write("\r\n".join([*head, f"content-length: {len(data)}", "", ""]).encode() + data)
    await writer.drain()
    return reader, writer


def ask(model: str, *, stream: bool, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "hello"}], "stream": stream, **more}


def wake(service: Service, model: str) -> None:
    """See to it that the engine runs before anything is measured."""
    data = json.dumps(ask(model, stream=False, max_tokens=1)).encode()
    request = urllib.request.Request(
        f"{service.url}/v1/chat/completions", data=data, headers={"content-type": "application/json"}
    )
    urllib.request.urlopen(request, timeout=60).close()


async def soon(measure: Callable[[], Awaitable[float]]) -> bool:
    """Whether one of several measurements, in seconds, is soon enough."""
    for _ in range(ATTEMPTS):
        if await measure() < SOON:
            return True
    return False


@pytest.mark.parametrize("model", ["steady", "deaf"])
@pytest.mark.parametrize("script", [{"tokens": 5000, "gap": 0.02}, {"ttft": 30}], ids=["decoding", "prefilling"])
@pytest.mark.parametrize("stream", [True, False], ids=["streaming", "plain"])
async def test_leaving_ends_the_work_of_the_engine(service: Service, model: str, script: Any, stream: bool) -> None:
    await asyncio.to_thread(wake, service, model)

    def state() -> Any:
        return service.ask_engine(model, "/scripted/state")

    async def leave() -> float:
        before = state()
        assert before["active"] == 0
        reader, writer = await connect(service, ask(model, stream=stream, x_scripted=script))
        await asyncio.to_thread(until, lambda: state()["active"] == 1)
        if stream and "gap" in script:
            await reader.readuntil(b"t2 ")
        writer.transport.abort()
        left = time.time()
        await asyncio.to_thread(until, lambda: state()["requests"][-1]["abort"] is not None)
        await asyncio.to_thread(until, lambda: state()["active"] == 0)
        after = state()
        last = after["requests"][-1]
        assert last["outcome"] == "aborted"
        assert after["aborted"] == before["aborted"] + 1
        assert last["abort_session"] == last["session"]
        return float(max(last["ended"], last["abort"], last["closed"] or 0.0)) - left

    assert await soon(leave)
