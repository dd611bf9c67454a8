"""Requests that are meant to do harm, over real sockets: two in one, heads and bodies without end, slow senders.

Each line of SECURITY.md names the test that holds it.
"""

from __future__ import annotations

import asyncio
import json
import threading
from typing import TYPE_CHECKING, Any

import pytest

from functions.http_protocol import HttpProtocol
from functions.listening import Listening
from infra.settings import ApiKey, Security
from tests.configured_engines import ConfiguredEngines
from tests.web.conftest import chat, settings_with, target_of, until
from web.application import Services, create_application
from web.clock import RealClock
from web.draining import Draining
from web.receiving import MOST_HEAD_BYTES, SLOWEST, seconds_left

if TYPE_CHECKING:
    from functions.engines.scripted_server import ScriptedServer
    from tests.web.conftest import Served
    from tests.web.doubles import HandClock, HandEngine

pytestmark = pytest.mark.slow

PATIENCE = 30.0


@pytest.fixture
def http_protocol(clock: HandClock) -> type[asyncio.Protocol]:
    """The service's own, by the test's clock."""
    return type("Turned", (HttpProtocol,), {"clock": clock, "receive_timeout": PATIENCE})


GET = b"GET /health HTTP/1.1\r\nHost: t\r\n"
POST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: t\r\n"
SECOND = b"GET /health HTTP/1.1\r\nHost: t\r\n\r\n"
"""What would be taken for another request by who reads the first one's length otherwise."""


async def told(port: int, data: bytes) -> bytes:
    """All that is answered until the connection closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    answer = bytearray()
    async with asyncio.timeout(30):
        try:
            while part := await reader.read(65536):
                answer += part
        except ConnectionResetError:
            answer += b"<reset>"
    writer.close()
    return bytes(answer)


def refused(answer: bytes) -> tuple[int, str]:
    """Status and code of the one refusal that the answer is, after which nothing follows."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"connection: close" in head.lower()
    return int(head.split()[1]), json.loads(body)["error"]["code"]


TWO_MESSAGES_IN_ONE = {
    "a length and chunks": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"Content-Length: 0\r\nContent-Length: 5\r\n\r\n",
    "the same length twice": b"Content-Length: 0\r\nContent-Length: 0\r\n\r\n",
    "two lengths in one": b"Content-Length: 0, 5\r\n\r\n",
    "a length with a sign": b"Content-Length: +0\r\n\r\n",
    "a length below zero": b"Content-Length: -1\r\n\r\n",
    "a length in hexadecimal": b"Content-Length: 0x0\r\n\r\n",
    "a coding that nobody knows": b"Transfer-Encoding: xchunked\r\n\r\n",
    "chunks that are not last": b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "codings twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "a space before the colon": b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "a folded line": b"X-A: a\r\n Content-Length: 5\r\n\r\n",
    "lines without a carriage return": b"X-A: a\nContent-Length: 0\n\n",
    "a lone carriage return": b"X-A: a\rb\r\n\r\n",
    "a NUL": b"X-A: a\0b\r\n\r\n",
    "two hosts": b"Host: u\r\n\r\n",
    "a chunk of a size that overflows": b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
}  # fmt: skip


@pytest.mark.parametrize("trick", TWO_MESSAGES_IN_ONE.values(), ids=TWO_MESSAGES_IN_ONE.keys())
async def test_what_could_be_read_as_two_requests_is_refused_and_nothing_of_it_is_answered(
    served: Served, trick: bytes
) -> None:
    assert refused(await told(served.port, POST + trick + SECOND)) == (400, "invalid_http")


@pytest.mark.parametrize(
    "line", [b"GET /health HTTP/1.1\r\n\r\n", b"CONNECT elsewhere.example:80 HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02"]
)
async def test_what_names_no_host_or_is_no_http_is_refused(served: Served, line: bytes) -> None:
    assert refused(await told(served.port, line)) == (400, "invalid_http")


async def test_a_host_that_is_not_ours_and_a_whole_address_change_nothing(served: Served) -> None:
    """No address is made from what a caller calls us: nothing leads to it, and no cache can be given it."""
    for line in (b"GET /v1/models HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Host: evil.example\r\n",
                 b"GET http://evil.example/v1/models HTTP/1.1\r\nHost: t\r\n"):  # fmt: skip
        answer = await told(served.port, line + b"Connection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"evil.example" not in answer


@pytest.mark.parametrize(
    "path", ["/v1/models/%0d%0aX-Evil:%20yes", "/chat/history/%0d%0aX-Evil:%20yes", "/%0d%0aX-Evil:%20yes"]
)
async def test_line_feeds_in_a_path_reach_no_header(served: Served, path: str) -> None:
    answer = await told(served.port, f"GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n".encode())
    head, _, _ = answer.partition(b"\r\n\r\n")
    assert b"x-evil" not in head.lower()


PATHS_OUT = [
    "/static/../application.py", "/static/%2e%2e/application.py", "/static/..%2f..%2fapp.py", "/static/./",
    "/static//etc/passwd", "/v1/files/..%2f..%2fx/content", "/health/../admin/keys", "/health%2f..%2fadmin%2fkeys",
    "/HEALTH", "/health/", "/health;x=1", "//health",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS_OUT)
async def test_no_spelling_of_a_path_leads_out_of_its_folder_or_past_a_key(
    serve: Any, engine: ScriptedServer, path: str
) -> None:
    security = Security(enable_auth=True, api_keys=(ApiKey(key="sk-" + 40 * "k", name="somebody"),))
    served = serve(engine, settings=settings_with().model_copy(update={"security": security}))
    answer = await told(served.port, f"GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n".encode())
    assert int(answer.split()[1]) in (401, 404)
    assert b"import" not in answer


@pytest.mark.parametrize(
    "head",
    [GET + b"X: " + b"a" * 3_000_000, GET + b"".join(b"X-%d: a\r\n" % number for number in range(20_000)),
     b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: t\r\n"],
    ids=["a long header", "many headers", "a long path"],
)  # fmt: skip
async def test_a_head_that_is_too_large_is_refused_while_it_comes(served: Served, head: bytes) -> None:
    answer = await told(served.port, head + b"\r\n\r\n")
    assert refused(answer.removesuffix(b"<reset>")) == (431, "headers_too_large")


async def test_a_head_of_a_usual_size_is_taken(served: Served) -> None:
    head = GET + b"X: " + b"a" * (MOST_HEAD_BYTES - 1000) + b"\r\nConnection: close\r\n\r\n"
    assert (await told(served.port, head)).startswith(b"HTTP/1.1 200 ")


DEEP = {
    "lists": b'{"messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "objects": b'{"messages":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001,
    "as deep as the parser goes": b'{"model":"x","messages":' + b"[" * 900 + b"]" * 900 + b"}",
    "a number without end": b'{"max_tokens":' + b"9" * 100_000 + b"}",
}  # fmt: skip


@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/v1/responses", "/v1/messages", "/completions", "/v1/conversations"]
)
async def test_json_that_is_too_deep_is_refused_like_any_mistake(served: Served, path: str) -> None:
    for name, body in DEEP.items():
        head = f"POST {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        answer = await told(served.port, head.encode() + body)
        assert answer.startswith(b"HTTP/1.1 400 "), (name, answer[:400])


@pytest.mark.parametrize("path", ["/v1/batches", "/v1/sessions", "/chat/history/x/rollback", "/v1/files"])
async def test_who_is_refused_in_mid_body_by_any_route_reads_why(served: Served, path: str) -> None:
    """A connection that is closed while its sender still sends is reset, and the answer lost."""
    size = 3_000_000
    head = f"POST {path} HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\nContent-Length: {size}\r\n\r\n"
    status, _ = refused(await told(served.port, head.encode() + b" " * size))
    assert 400 <= status < 500


# Slow senders.


def test_a_body_that_comes_steadily_has_as_long_as_it_takes() -> None:
    assert seconds_left(waited=PATIENCE, received=0, timeout=PATIENCE) == 0
    assert seconds_left(waited=600, received=600 * SLOWEST, timeout=PATIENCE) == PATIENCE
    assert seconds_left(waited=600, received=10 * SLOWEST, timeout=PATIENCE) < 0, "a byte now and then is not steadily"


SLOW = {
    "nothing at all": (b"", b""),
    "half a head": (POST + b"X-A:", b"a"),
    "empty lines": (b"\r\n", b"\r\n"),
    "half a body": (POST + b"Content-Length: 100\r\n\r\n{", b" "),
    "chunks without end": (POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n", b"1\r\n \r\n"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("after_another", [False, True], ids=["first", "on a connection that was used"])
@pytest.mark.parametrize("kind", SLOW)
async def test_who_sends_too_slowly_is_put_out_however_often_a_byte_comes(
    served: Served, clock: HandClock, kind: str, after_another: bool
) -> None:
    if kind == "nothing at all" and after_another:
        pytest.skip("that is a connection kept for later, which uvicorn closes in its time")
    begin, more = SLOW[kind]
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    if after_another:
        writer.write(GET + b"\r\n")
        await reader.readuntil(b"}")
    writer.write(begin)
    await until(clock.pending)
    while await still_open(reader):
        assert clock.monotonic() < 1000 + 3 * PATIENCE, "patience has an end"
        writer.write(more)
        clock.advance(5)
    assert clock.monotonic() >= 1000 + PATIENCE
    writer.close()


async def still_open(reader: asyncio.StreamReader) -> bool:
    """Whether the connection is, after the server had time to close it. What it has answered is read."""
    try:
        async with asyncio.timeout(0.05):
            return await reader.read(65536) != b""
    except TimeoutError:
        return True
    except ConnectionError:
        return False


@pytest.mark.parametrize("kind", ["half a head", "half a body", "chunks without end"])
async def test_a_slow_sender_who_listens_is_told(served: Served, clock: HandClock, kind: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    async with asyncio.timeout(30):
        writer.write(GET + b"\r\n")
        await reader.readuntil(b"}")
        writer.write(SLOW[kind][0])
        answer = asyncio.create_task(reader.read())
        while not answer.done():
            await until(lambda: clock.pending() or answer.done())  # all that is sent was read
            clock.advance(PATIENCE)
        assert refused(await answer) == (408, "request_timeout")
    writer.close()


async def test_a_slow_sender_of_a_steady_body_is_answered(served: Served, clock: HandClock) -> None:
    body = b'{"model":"nothing/here","messages":[{"role":"user","content":"x"}]' + b" " * 40 * SLOWEST + b"}"
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(POST + f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode())
    async with asyncio.timeout(60):
        for begin in range(0, len(body), SLOWEST):
            writer.write(body[begin : begin + SLOWEST])
            await writer.drain()
            await asyncio.sleep(0.005)  # in which it is read
            clock.advance(1)
        assert (await reader.read()).startswith(b"HTTP/1.1 404 "), "of the model"
    assert clock.monotonic() > 1000 + PATIENCE
    writer.close()


async def test_who_waits_for_an_answer_or_between_two_requests_is_not_slow(
    serve: Any, hand_engine: HandEngine, clock: HandClock
) -> None:
    served = serve(hand_engine.url)
    response = await served.raw(chat())
    talk = await hand_engine.next()
    assert not clock.pending()
    clock.advance(10 * PATIENCE)
    await talk.begin()
    await talk.token("x")
    await response.until(b'"x"')
    response.leave()


async def test_the_service_on_a_port_of_its_own_has_the_configured_patience(served: Served) -> None:
    draining = Draining(clock=RealClock(), grace=1.0)
    settings = settings_with()
    engines = ConfiguredEngines(settings.models, {"scripted": target_of("http://127.0.0.1:9")})
    application = create_application(Services(settings=settings, draining=draining, engines=engines))
    server = Listening(application, draining, host="127.0.0.1", port=0, write_timeout=40.0, receive_timeout=0.05)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        await until(lambda: server.started)
        answer = await told(server.listener.getsockname()[1], POST)
        assert refused(answer) == (408, "request_timeout")
    finally:
        server.leave()
        await until(lambda: not thread.is_alive())
