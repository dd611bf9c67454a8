"""An engine that cannot start is answered for: every request is told why, at once."""

from __future__ import annotations

import aiohttp
import pytest

from functions.engines.base import Address
from functions.engines.failed import FailureServer
from tests.ports import free_port


@pytest.mark.parametrize(("method", "path"), [("POST", "/v1/chat/completions"), ("GET", "/health")])
async def test_every_request_is_told_why(method: str, path: str) -> None:
    port = free_port()
    server = FailureServer(Address(host="127.0.0.1", port=port), "no such file: /models/x.gguf")
    server.start()
    try:
        url = f"http://127.0.0.1:{port}{path}"
        async with aiohttp.ClientSession() as session, session.request(method, url, data=b"x" * 300_000) as answer:
            body = await answer.json()
    finally:
        server.stop()
    assert answer.status == 503
    assert answer.headers["x-engine-state"] == "failed"
    assert body["error"]["code"] == "engine_start_failed"
    assert body["error"]["message"] == "no such file: /models/x.gguf"
