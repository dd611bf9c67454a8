"""Where messages end: one parser decides, and what two parsers could understand differently is refused."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from emulator.ingress.turns import DISCARD_SECONDS
from tests.emulator.ingress_kit import (
    FakeServer,
    FakeTarget,
    TurnedClock,
    exchange,
    raw,
    read_head,
    running,
    until,
)

POST = b"POST / HTTP/1.1\r\nHost: x\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

AMBIGUOUS = {
    "length and chunked": POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    "two lengths": POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "a signed length": POST + b"Content-Length: +3\r\n\r\nabc",
    "a list of lengths": POST + b"Content-Length: 3, 3\r\n\r\nabc",
    "an unknown coding": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "two codings": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked twice": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a space before the colon": POST + b"Content-Length : 3\r\n\r\nabc",
    "a folded header": POST + b"X: a\r\n b\r\n\r\n",
    "bare line feeds": b"GET / HTTP/1.1\nHost: x\n\n",
    "a bare carriage return": POST + b"X: a\rb\r\n\r\n",
    "a NUL": POST + b"X: a\0b\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "no path": b"GET nonsense HTTP/1.1\r\nHost: x\r\n\r\n",
    "CONNECT": b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no HTTP at all": b"\x16\x03\x01\x02\x00\x01\x00",
}


@pytest.mark.parametrize("name", AMBIGUOUS)
async def test_a_request_that_could_be_read_in_two_ways_is_refused(name: str) -> None:
    target = await FakeTarget("ta-1", _ok).start()
    async with running() as ingress:
        url = await _add(ingress, target)
        answer = await exchange(url, AMBIGUOUS[name])
    assert answer[9:12] in (b"400", b"405", b"501")
    assert answer.count(b"HTTP/1.1") == 1
    assert b"Connection: close" in answer
    assert target.connections == 0


async def test_a_chunked_body_that_breaks_off_is_never_completed_towards_the_server() -> None:
    got = b""

    async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal got
        got = await reader.read()

    target = await FakeTarget("ta-1", keep).start()
    async with running() as ingress:
        url = await _add(ingress, target)
        reader, writer = await raw(url, POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await until(lambda: target.connections)
        writer.write(b"zz\r\n")
        assert await reader.read() == b""
        await until(lambda: target.closed)
        writer.close()
    assert got.endswith(b"3\r\nabc\r\n")


async def test_a_connection_header_can_not_remove_what_frames_the_body() -> None:
    heads: list[bytes] = []

    async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await read_head(reader))
        assert await reader.readexactly(3) == b"abc"
        writer.write(OK)

    target = await FakeTarget("ta-1", keep).start()
    async with running() as ingress:
        url = await _add(ingress, target)
        request = POST + b"Connection: close, Content-Length, Host\r\nContent-Length: 3\r\n\r\nabc"
        assert (await exchange(url, request)).endswith(b"ok")
    assert b"Content-Length: 3\r\n" in heads[0]
    assert b"Host: x\r\n" in heads[0]


async def test_a_request_line_and_headers_that_never_end_are_refused() -> None:
    target = await FakeTarget("ta-1", _ok).start()
    async with running() as ingress:
        url = await _add(ingress, target)
        reader, writer = await raw(url, b"GET / HTTP/1.1\r\nHost: x\r\n")
        for _ in range(100):
            writer.write(b"X-Header: " + b"x" * 1000 + b"\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 431 ")
        writer.close()


async def test_a_request_in_single_bytes_is_a_request() -> None:
    target = await FakeTarget("ta-1", _ok).start()
    async with running() as ingress:
        url = await _add(ingress, target)
        reader, writer = await raw(url, b"")
        for byte in POST + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n1;ext=1\r\nx\r\n0\r\nT: v\r\n\r\n":
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)
        assert (await reader.read()).endswith(b"ok")
        writer.close()


@pytest.mark.parametrize("body", [b"", b"abc"])
async def test_an_offer_to_speak_http_2_is_ignored(body: bytes) -> None:
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    first = POST + upgrade + b"Content-Length: %d\r\n\r\n" % len(body) + body
    last = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    target = await FakeTarget("ta-1", _ok).start()
    async with running() as ingress:
        url = await _add(ingress, target)
        answer = await exchange(url, first + last)
    assert answer.count(b"HTTP/1.1 200 OK") == 2


async def test_an_absolute_request_target_means_its_path() -> None:
    heads: list[bytes] = []

    async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await read_head(reader))
        writer.write(OK)

    target = await FakeTarget("ta-1", keep).start()
    async with running() as ingress:
        url = await _add(ingress, target)
        await exchange(url, b"GET http://x/p?q=1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert heads[0].startswith(b"GET /p?q=1 HTTP/1.1\r\n")


async def test_an_early_answer_to_a_large_upload_reaches_the_client_and_closes() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        await reader.read()

    target = await FakeTarget("ta-1", refuse).start()
    async with running() as ingress:
        url = await _add(ingress, target)
        reader, writer = await raw(url, POST + b"Content-Length: 1000000\r\n\r\n" + bytes(500_000))
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 413")
        assert b"Connection: close" in head
        assert await reader.readexactly(2) == b"no"
        writer.write(bytes(500_000))
        assert await reader.read() == b""
        writer.close()


async def test_a_client_that_never_ends_its_upload_is_cut_off_after_its_early_answer() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        await reader.read()

    target = await FakeTarget("ta-1", refuse).start()
    clock = TurnedClock()
    async with running(clock) as ingress:
        reader, writer = await raw(await _add(ingress, target), POST + b"Content-Length: 9\r\n\r\n")
        await reader.readuntil(b"\r\n\r\nno")
        await until(lambda: clock.pending(DISCARD_SECONDS))
        clock.turn(DISCARD_SECONDS)
        async with asyncio.timeout(20):
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
        writer.close()


async def _ok(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        head = await read_head(reader)
        if b"chunked" in head:
            await reader.readuntil(b"0\r\n\r\n")
        elif b"Content-Length: 3" in head:
            await reader.readexactly(3)
        writer.write(OK)


async def _add(ingress, target: FakeTarget) -> str:  # type: ignore[no-untyped-def]
    return await ingress.add_server("s", label="s", backend=FakeServer(target), requires_proxy_auth=False)
