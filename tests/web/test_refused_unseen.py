"""What the server refuses by itself, before or under the application, is counted and logged like what that refuses."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from functions.http_protocol import HttpProtocol
from tests.web.conftest import chat, until
from tests.web.log_kit import logged

if TYPE_CHECKING:
    import aiohttp

    from tests.web.conftest import Served
    from tests.web.doubles import HandClock, HandEngine

pytestmark = pytest.mark.slow

PATIENCE = 30.0
CHAT = "/v1/chat/completions"
POST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: t\r\n"
REFUSED = {
    "no HTTP": (b"\x16\x03\x01\x02", "other", None, 400, "invalid_http"),
    "no host": (b"GET /health HTTP/1.1\r\n\r\n", "GET", None, 400, "invalid_http"),
    "no such method": (b"SPY / HTTP/1.1\r\nHost: t\r\n\r\n", "other", None, 400, "invalid_http"),
    "a long head": (POST + b"X: " + b"a" * 70_000 + b"\r\n\r\n", "POST", None, 431, "headers_too_large"),
    "half a head": (POST + b"X:", "other", None, 408, "request_timeout"),
    "half a body": (POST + b"Content-Length: 9\r\n\r\n{", "POST", CHAT, 408, "request_timeout"),
    "a bad chunk": (POST + b"Transfer-Encoding: chunked\r\n\r\nx\r\n", "POST", CHAT, 400, "invalid_http"),
}  # fmt: skip


@pytest.fixture
def http_protocol(clock: HandClock) -> type[asyncio.Protocol]:
    return type("Turned", (HttpProtocol,), {"clock": clock, "receive_timeout": PATIENCE})


@pytest.mark.parametrize("kind", REFUSED)
async def test_it_is_one_line_of_the_log_and_one_request_of_the_metrics(
    served: Served, http: aiohttp.ClientSession, clock: HandClock, kind: str
) -> None:
    data, method, route, status, code = REFUSED[kind]
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    with logged() as log:
        writer.write(data)
        answer = asyncio.create_task(reader.read())
        while not answer.done():
            await until(lambda: answer.done() or (status == 408 and clock.pending()))
            clock.advance(PATIENCE)
        head = (await answer).decode()
        await until(lambda: log.lines("web.access"))
        line, *others = log.lines("web.access")
    writer.close()
    assert not others
    assert (line["method"], line["route"], line["status"], line["error"]) == (method, route, status, code)
    assert f"\r\nx-request-id: {line['request_id']}\r\n" in head
    labels = f'{{method="{method}",route="{route or "other"}",status="{status}"}}'
    counted = await (await http.get(served.url + "/metrics")).text()
    assert f"http_requests_total{labels} 1.0\n" in counted
    assert 'status="499"' not in counted, "it is the server that ended it"


async def test_a_refusal_is_not_read_as_part_of_an_answer_that_is_under_way(
    serve: Any, hand_engine: HandEngine, clock: HandClock
) -> None:
    served = serve(hand_engine.url)
    body = json.dumps(chat()).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(POST + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
    talk = await hand_engine.next()
    await talk.begin()
    await talk.token("x")
    got = await reader.readuntil(b'"x"')
    with logged() as log:
        writer.write(b"\x16\x03\x01\x02")
        got += await reader.read()
        await until(lambda: len(log.lines("web.access")) == 2)
        told = sorted((line["status"], line.get("error")) for line in log.lines("web.access"))
    writer.close()
    assert got.count(b"HTTP/1.1 ") == 1
    assert told == [(200, None), (400, "invalid_http")]


async def test_nor_as_the_answer_to_a_request_before_it(serve: Any, hand_engine: HandEngine, clock: HandClock) -> None:
    served = serve(hand_engine.url)
    body = json.dumps(chat()).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(POST + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
    await hand_engine.next()
    with logged() as log:
        writer.write(b"\x16\x03\x01\x02")
        got = await reader.read()
        await until(lambda: len(log.lines("web.access")) == 2)
        told = sorted((line["status"], line.get("error")) for line in log.lines("web.access"))
    writer.close()
    assert got == b""
    assert told == [(400, "invalid_http"), (499, None)]
