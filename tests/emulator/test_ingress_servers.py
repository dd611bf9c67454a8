"""Servers through the ingress: a proxy that authorizes, chooses a container, and then only moves bytes."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from tests.emulator.ingress_kit import (
    GET,
    LAST,
    OK,
    FakeServer,
    FakeTarget,
    TurnedClock,
    add_server,
    answering,
    exchange,
    raw,
    read_head,
    running,
    until,
)


async def test_a_request_reaches_the_server_and_its_answer_comes_back_unchanged() -> None:
    answer = answering(b"HTTP/1.1 299 Fine so far\r\nX-Two: b\r\nx-two: c\r\nContent-Length: 2\r\n\r\nok")
    target = await FakeTarget("ta-1", answer).start()
    async with running() as ingress:
        url = await add_server(ingress, FakeServer(target))
        got = await exchange(
            url, b"GET /v1/x?y=%2F HTTP/1.1\r\nHost: h:1\r\nX-One: a\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\n\r\n"
        )
    assert got == (
        b"HTTP/1.1 299 Fine so far\r\nX-Two: b\r\nx-two: c\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
    )
    assert answer.heads == [b"GET /v1/x?y=%2F HTTP/1.1\r\nHost: h:1\r\nX-One: a\r\nX-Forwarded-For: 127.0.0.1\r\n\r\n"]


async def test_what_a_container_has_had_is_told_of_and_what_it_has_not_is_not() -> None:
    target = await FakeTarget("ta-1", answering(b"HTTP/1.1 201 Made\r\nContent-Length: 0\r\n\r\n")).start()
    server = FakeServer(target)
    async with running() as ingress:
        url = await add_server(ingress, server)
        await exchange(
            url, b"POST /made?secret=1 HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
        server.change()
        assert b" 503 " in await exchange(url, LAST)
    assert server.had == [("ta-1", "/made", 201)]


async def test_requests_share_kept_connections() -> None:
    target = await FakeTarget("ta-1", answering(OK)).start()
    async with running() as ingress, aiohttp.ClientSession() as client:
        url = await add_server(ingress, FakeServer(target))
        for _ in range(5):
            async with client.get(url) as response:
                assert await response.read() == b"ok"
    assert target.dials == 1


async def test_a_connection_kept_for_too_long_is_not_used_again() -> None:
    clock = TurnedClock()
    target = await FakeTarget("ta-1", answering(OK)).start()
    async with running(clock) as ingress, aiohttp.ClientSession() as client:
        url = await add_server(ingress, FakeServer(target))
        for _ in range(2):
            async with client.get(url) as response:
                assert await response.read() == b"ok"
            clock.turn(2.0)
    assert target.dials == 2


async def test_a_kept_connection_that_dies_under_a_get_is_replaced_without_the_client_noticing() -> None:
    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(OK)
        await read_head(reader)

    target = await FakeTarget("ta-1", once).start()
    async with running() as ingress, aiohttp.ClientSession() as client:
        url = await add_server(ingress, FakeServer(target))
        for _ in range(2):
            async with client.get(url) as response:
                assert await response.read() == b"ok"
        async with client.post(url, data=b"x") as response:
            assert response.status == 502
    assert target.dials == 2


async def test_a_stream_is_passed_on_piece_by_piece_with_what_it_was_read_as() -> None:
    go = asyncio.Event()

    async def sse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        await go.wait()
        go.clear()
        writer.write(b"9\r\ndata: 1\n\n\r\n")
        await go.wait()
        writer.write(b"9\r\ndata: 2\n\n\r\n0\r\n\r\n")
        await reader.read()

    target = await FakeTarget("ta-1", sse).start()
    async with running() as ingress, aiohttp.ClientSession() as client:
        url = await add_server(ingress, FakeServer(target))
        async with client.get(url) as response:
            assert response.content_type == "text/event-stream"
            go.set()
            assert await response.content.readany() == b"data: 1\n\n"
            go.set()
            assert await response.content.read() == b"data: 2\n\n"


async def test_a_body_that_ends_with_its_connection_is_framed_for_the_client() -> None:
    target = await FakeTarget("ta-1", answering(b"HTTP/1.0 200 OK\r\n\r\nall of it", close=True)).start()
    async with running() as ingress:
        url = await add_server(ingress, FakeServer(target))
        got = await exchange(url, GET + LAST)
    assert got.count(b"Transfer-Encoding: chunked\r\n") == 2
    assert got.count(b"all of it") == 2
    assert got.endswith(b"0\r\n\r\n")


async def test_uploads_stream_with_a_length_and_chunked() -> None:
    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = (await read_head(reader)).lower()
            size = 0
            if b"transfer-encoding: chunked" in head:
                while length := int(await reader.readline(), 16):
                    size += len((await reader.readexactly(length + 2))[:-2])
                await reader.readline()
            else:
                size = len(await reader.readexactly(int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])))
            body = str(size).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    async def pieces() -> Any:
        for _ in range(50):
            yield bytes(100_000)

    target = await FakeTarget("ta-1", count).start()
    async with running() as ingress, aiohttp.ClientSession() as client:
        url = await add_server(ingress, FakeServer(target))
        async with client.post(url, data=bytes(5_000_000)) as response:
            assert await response.read() == b"5000000"
        async with client.post(url, data=pieces()) as response:
            assert await response.read() == b"5000000"


@pytest.mark.parametrize("direction", ["up", "down"])
async def test_whoever_is_slow_holds_back_the_other_end(direction: str) -> None:
    moved = 0

    async def produce(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal moved
        await read_head(reader)
        if direction == "up":
            await asyncio.Event().wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        while True:
            writer.write(bytes(65536))
            await writer.drain()
            moved += 65536

    target = await FakeTarget("ta-1", produce).start()
    async with running() as ingress:
        url = await add_server(ingress, FakeServer(target))
        _, writer = await raw(url, GET if direction == "down" else b"")

        async def upload() -> None:
            nonlocal moved
            writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n")
            while True:
                writer.write(bytes(65536))
                await writer.drain()
                moved += 65536

        task = asyncio.create_task(upload()) if direction == "up" else None
        await until(lambda: moved)
        before = -1
        while before != moved:
            before = moved
            await asyncio.sleep(0.05)
        assert moved < 30_000_000
        if task is not None:
            task.cancel()
        writer.transport.abort()


async def test_head_204_and_304_have_no_body_and_the_connection_goes_on() -> None:
    answers = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b'HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: "e"\r\n\r\n',
        OK,
    ]

    async def each(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_head(reader)
            writer.write(answers.pop(0))

    target = await FakeTarget("ta-1", each).start()
    async with running() as ingress:
        url = await add_server(ingress, FakeServer(target))
        got = await exchange(url, GET.replace(b"GET", b"HEAD") + GET + GET + LAST)
    head, no_content, not_modified, last, body = got.split(b"\r\n\r\n")
    assert b"Content-Length: 5" in head
    assert no_content.startswith(b"HTTP/1.1 204")
    assert b"Content-Length: 5" in not_modified
    assert last.startswith(b"HTTP/1.1 200")
    assert body == b"ok"


async def test_100_continue_is_the_servers_to_say() -> None:
    async def careful(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert b"Expect: 100-continue" in await read_head(reader)
        await asked.wait()
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert await reader.readexactly(2) == b"hi"
        writer.write(OK)

    asked = asyncio.Event()
    target = await FakeTarget("ta-1", careful).start()
    async with running() as ingress:
        url = await add_server(ingress, FakeServer(target))
        head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
        reader, writer = await raw(url, head)
        asked.set()
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"hi")
        assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
        writer.close()


async def test_a_client_that_does_not_read_its_answers_stalls_nobody_else_on_the_kept_connection() -> None:
    answer = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n" + bytes(60000))
    target = await FakeTarget("ta-1", answer).start()
    async with running() as ingress, aiohttp.ClientSession() as client:
        url = await add_server(ingress, FakeServer(target))
        _, writer = await raw(url, GET * 1000)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        before = 0
        while before != (before := len(answer.heads)) or not before:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        assert before < 900  # it is held back, and its last answer has filled the buffer
        async with client.get(url) as response:
            assert len(await response.read()) == 60000
        assert target.dials == 1
        writer.transport.abort()
