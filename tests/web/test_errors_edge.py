"""The edges of HTTP: what is no JSON, what is too large while it is still sent, and what nobody should read."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from infra.settings import Security
from tests.web.conftest import MODEL, chat, settings_with, until
from tests.web.test_errors import error_of
from web.errors import EngineBroken, EngineFailed, EngineRefused, presentable

if TYPE_CHECKING:
    from functions.engines.scripted_server import ScriptedServer
    from tests.web.conftest import Served
    from tests.web.doubles import HandEngine

COMPLETION = json.dumps({"model": MODEL, "prompt": "x", "max_tokens": 1}).encode()


@pytest.mark.parametrize(
    "kind", [None, "application/json", "application/json; charset=utf-8", "Application/JSON", "application/vnd.x+json",
             "text/plain", "application/octet-stream", "application/x-www-form-urlencoded"],
)  # fmt: skip
async def test_json_is_taken_whatever_a_careless_client_calls_it(served: Served, kind: str | None) -> None:
    response = await served.raw(COMPLETION, "/v1/completions", *([f"Content-Type: {kind}"] if kind else []))
    assert (await response.head())[0] == 200


@pytest.mark.parametrize(
    "line", ["Content-Type: text/xml", "Content-Type: multipart/form-data; boundary=x", "Content-Type: image/png",
             "Content-Type: application/json; charset=utf-16", "Content-Encoding: gzip", "Content-Encoding: br"],
)  # fmt: skip
async def test_what_says_that_it_is_no_json_is_unsupported(served: Served, line: str) -> None:
    response = await served.raw(COMPLETION, "/v1/completions", line)
    status, headers = await response.head()
    error = error_of((await response.rest()).decode())
    assert (status, error["code"], headers["accept-encoding"]) == (415, "unsupported_media_type", "identity")


@pytest.mark.parametrize("chunked", [False, True], ids=["with its length", "in chunks"])
async def test_who_sends_far_too_much_reads_that_it_is_too_large(
    serve: Any, engine: ScriptedServer, chunked: bool
) -> None:
    """It sends on, and asks the server to close: a server that did at once would reset the connection."""
    served = serve(engine, web={"max_body_bytes": 4096})
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    pieces, size = 100, 100_000
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {pieces * size}"
    writer.write(f"POST /v1/completions HTTP/1.1\r\nHost: t\r\nConnection: close\r\n{framing}\r\n\r\n".encode())
    for _ in range(pieces):
        data = b" " * size
        writer.write(b"%x\r\n%s\r\n" % (size, data) if chunked else data)
        await writer.drain()
    if chunked:
        writer.write(b"0\r\n\r\n")
    async with asyncio.timeout(30):
        answer = await reader.read()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in head.lower()
    assert error_of(body.decode())["code"] == "request_too_large"
    writer.close()


async def test_who_never_ends_a_refused_body_is_answered_at_once_and_let_go_in_time(
    serve: Any, engine: ScriptedServer, clock: Any
) -> None:
    served = serve(engine, web={"max_body_bytes": 4096}, clock=clock)
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: t\r\nContent-Length: 9999999\r\n\r\n ")
    async with asyncio.timeout(20):
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 413 " in head
        length = int(next(line for line in head.lower().split(b"\r\n") if b"content-length" in line).split(b":")[1])
        error_of((await reader.readexactly(length)).decode())
        await until(clock.pending)
        clock.advance(10)
        assert await reader.read() == b""
    writer.close()


async def test_who_asks_before_sending_is_refused_without_being_told_to_go_on(
    serve: Any, engine: ScriptedServer
) -> None:
    served = serve(engine, web={"max_body_bytes": 4096})
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: 9999999\r\n\r\n")
    async with asyncio.timeout(20):
        answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"100 Continue" not in answer
    writer.close()


async def test_405_names_every_method_that_there_is(served: Served, http: aiohttp.ClientSession) -> None:
    for method, path, allowed in [
        ("GET", "/v1/chat/completions", {"POST", "OPTIONS"}),
        ("POST", "/health", {"GET", "HEAD", "OPTIONS"}),
        ("POST", "/v1/models", {"GET", "HEAD", "OPTIONS"}),
        ("PUT", "/chat/history/x", {"GET", "HEAD", "DELETE", "OPTIONS"}),
    ]:
        async with http.request(method, served.url + path) as response:
            assert response.status == 405
            assert set(response.headers["allow"].split(", ")) == allowed
            assert error_of(await response.text())["code"] == "method_not_supported"
        async with http.options(served.url + path) as response:
            assert (response.status, set(response.headers["allow"].split(", "))) == (204, allowed)


async def test_head_is_get_without_a_body(served: Served) -> None:
    for path, status in [("/health", 200), ("/v1/models", 200), ("/", 200), ("/nothing", 404)]:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(f"HEAD {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n".encode())
        async with asyncio.timeout(20):
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        assert (int(head.split()[1]), body) == (status, b"")
        assert b"content-length: 0" not in head.lower()
        writer.close()


@pytest.mark.parametrize(
    "path", ["/%zz", "/%ff%fe", "/v1/models/%00", "/v1/models/%F0%9F", "/v1/%2e%2e/x", "//", "/v1/"]
)
async def test_odd_paths_are_plain_404s(served: Served, path: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n".encode())
    async with asyncio.timeout(20):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 404 ")
    error_of(body.decode())
    writer.close()


async def test_who_closes_its_half_of_the_connection_has_left(
    serve: Any, hand_engine: HandEngine, caplog: pytest.LogCaptureFixture
) -> None:
    """To uvicorn it looks the same; the engine is freed, and nothing is logged as an error."""
    served = serve(hand_engine.url)
    response = await served.raw(chat())
    talk = await hand_engine.next()
    await talk.begin()
    await talk.token("x")
    await response.until(b'"x"')
    response.writer.write_eof()
    await until(talk.closed.is_set)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_an_idempotency_key_is_welcome(served: Served, http: aiohttp.ClientSession) -> None:
    headers = {"Idempotency-Key": "once", "OpenAI-Organization": "o", "X-Stainless-Retry-Count": "1"}
    async with http.post(served.url + "/v1/completions", data=COMPLETION, headers=headers) as response:
        assert response.status == 200


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("temperature is odd", "temperature is odd"),
        ("cannot open /srv/models/secret/file.gguf here", "cannot open file.gguf here"),
        ('File "/usr/lib/python3/site-packages/sglang/srt/x.py", line 3', 'File "x.py", line 3'),
        ("POST http://10.1.2.3:30000/generate failed", "POST [address] failed"),
        ("connect to 10.1.2.3:30000 or localhost:8000 refused", "connect to [address] or [address] refused"),
        ("s3://bucket/key?sig=1 is gone", "[address] is gone"),
        ("the model org/name and/or text/plain at 1/2", "the model org/name and/or text/plain at 1/2"),
        ("one\nTraceback (most recent call last):", "one"),
    ],
)
def test_an_engines_words_lose_what_only_its_operator_should_know(said: str, told: str) -> None:
    assert presentable(said) == told
    for error in (EngineRefused(said), EngineBroken(said, code="engine_error")):
        assert error.message == told
    assert EngineFailed(said).message.endswith(told)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("status", [400, 500])
async def test_no_path_and_no_address_of_an_engine_reaches_a_caller(
    serve: Any, hand_engine: HandEngine, stream: bool, status: int
) -> None:
    served = serve(hand_engine.url)
    response = await served.raw(chat(stream=stream))
    said = {"message": "boom in /opt/engine/worker.py at http://10.0.0.7:30000/x\nTraceback: secret", "code": status}
    await (await hand_engine.next()).answer(status, json.dumps(said).encode())
    answered, _ = await response.head()
    text = (await response.rest()).decode()
    assert answered == (400 if status == 400 else 502)
    assert "boom in worker.py at [address]" in error_of(text)["message"]
    for hidden in ("/opt", "10.0.0.7", "Traceback", "secret", hand_engine.url):
        assert hidden not in text


async def test_an_exception_in_a_route_tells_nothing(
    serve: Any, engine: ScriptedServer, http: aiohttp.ClientSession
) -> None:
    class Broken:
        def names(self) -> Any:
            raise RuntimeError("secret at http://10.0.0.7/internal")

        async def close(self) -> None:
            """The end of the application asks for it."""

        def __getattr__(self, name: str) -> Any:
            raise RuntimeError("secret at http://10.0.0.7/internal")

    served = serve(engine, control=Broken(), sessions=Broken())
    for method, path in (("GET", "/sessions"), ("POST", "/models/scripted/load")):
        async with http.request(method, served.url + path) as response:
            text = await response.text()
            assert (response.status, error_of(text)["code"]) == (500, "internal_error"), path
            assert "secret" not in text


# Browsers of other origins.


def only(*origins: str) -> Any:
    return settings_with().model_copy(update={"security": Security(allowed_origins=origins)})


async def test_where_origins_are_limited_every_answer_varies_and_none_allows_credentials(
    serve: Any, engine: ScriptedServer, http: aiohttp.ClientSession
) -> None:
    served = serve(engine, settings=only("https://a.example"))
    for origin, allowed in ((None, None), ("https://a.example", "https://a.example"), ("https://b.example", None)):
        for path in ("/v1/models", "/nothing"):
            async with http.get(served.url + path, headers={"Origin": origin} if origin else {}) as response:
                assert response.headers.getall("vary") == ["origin"]
                assert response.headers.get("access-control-allow-origin") == allowed
                assert "access-control-allow-credentials" not in response.headers


async def test_where_any_origin_may_ask_none_is_named_and_the_rates_are_exposed(
    served: Served, http: aiohttp.ClientSession
) -> None:
    async with http.post(
        served.url + "/v1/completions", data=b"{", headers={"Origin": "https://x.example"}
    ) as response:
        assert (response.status, response.headers["access-control-allow-origin"]) == (400, "*")
        exposed = response.headers["access-control-expose-headers"].lower()
        for name in ("x-request-id", "retry-after", "x-ratelimit-remaining-requests", "x-ratelimit-reset-tokens"):
            assert name in exposed
