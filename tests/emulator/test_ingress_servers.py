"""Servers through the ingress: a proxy that authorizes, chooses a container, and then only moves bytes."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import aiohttp
import pytest
import websockets

from tests.emulator.ingress_kit import (
    FakeServer,
    FakeTarget,
    TurnedClock,
    best_of,
    exchange,
    raw,
    read_head,
    running,
    until,
)

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def answering(*pieces: bytes, close: bool = False) -> Any:
    """A server that answers each request with the same bytes, and remembers the heads that it got."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            heads.append(await read_head(reader))
            for piece in pieces:
                writer.write(piece)
            if close:
                return

    heads: list[bytes] = []
    answer.heads = heads  # type: ignore[attr-defined]
    return answer


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def add(ingress: Any, server: FakeServer, **options: Any) -> str:
    return await ingress.add_server("s", backend=server, **{"label": "app-s", "requires_proxy_auth": False, **options})


async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Takes a request and says nothing, until the connection ends."""
    await reader.read()


async def test_a_request_reaches_the_server_and_its_answer_comes_back_unchanged() -> None:
    answer = answering(b"HTTP/1.1 299 Fine so far\r\nX-Two: b\r\nx-two: c\r\nContent-Length: 2\r\n\r\nok")
    target = await FakeTarget("ta-1", answer).start()
    async with running() as ingress:
        url = await add(ingress, FakeServer(target))
        got = await exchange(
            url, b"GET /v1/x?y=%2F HTTP/1.1\r\nHost: h:1\r\nX-One: a\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\n\r\n"
        )
    assert got == (
        b"HTTP/1.1 299 Fine so far\r\nX-Two: b\r\nx-two: c\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
    )
    assert answer.heads == [b"GET /v1/x?y=%2F HTTP/1.1\r\nHost: h:1\r\nX-One: a\r\nX-Forwarded-For: 127.0.0.1\r\n\r\n"]


async def test_requests_share_kept_connections() -> None:
    target = await FakeTarget("ta-1", answering(OK)).start()
    async with running() as ingress, aiohttp.ClientSession() as client:
        url = await add(ingress, FakeServer(target))
        for _ in range(5):
            async with client.get(url) as response:
                assert await response.read() == b"ok"
    assert target.dials == 1


async def test_a_connection_kept_for_too_long_is_not_used_again() -> None:
    clock = TurnedClock()
    target = await FakeTarget("ta-1", answering(OK)).start()
    async with running(clock) as ingress, aiohttp.ClientSession() as client:
        url = await add(ingress, FakeServer(target))
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
        url = await add(ingress, FakeServer(target))
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
        url = await add(ingress, FakeServer(target))
        async with client.get(url) as response:
            assert response.content_type == "text/event-stream"
            go.set()
            assert await response.content.readany() == b"data: 1\n\n"
            go.set()
            assert await response.content.read() == b"data: 2\n\n"


async def test_a_body_that_ends_with_its_connection_is_framed_for_the_client() -> None:
    target = await FakeTarget("ta-1", answering(b"HTTP/1.0 200 OK\r\n\r\nall of it", close=True)).start()
    async with running() as ingress:
        url = await add(ingress, FakeServer(target))
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
        url = await add(ingress, FakeServer(target))
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
        url = await add(ingress, FakeServer(target))
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
        url = await add(ingress, FakeServer(target))
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
        url = await add(ingress, FakeServer(target))
        head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
        reader, writer = await raw(url, head)
        asked.set()
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"hi")
        assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
        writer.close()


# No container, too many requests, broken servers


async def test_without_a_container_it_answers_503_and_counts_the_demand() -> None:
    server = FakeServer()
    async with running() as ingress, aiohttp.ClientSession() as client:
        url = await add(ingress, server)
        async with client.get(url) as response:
            assert response.status == 503
            assert (await response.text()).startswith("modal-http: ")
    assert server.demanded == 1


async def test_above_max_concurrency_it_answers_429() -> None:
    target = await FakeTarget("ta-1", hang).start()
    async with running() as ingress, aiohttp.ClientSession() as client:
        url = await add(ingress, FakeServer(target, max_concurrency=1))
        _, writer = await raw(url, GET)
        await until(lambda: target.active == 1)
        async with client.get(url) as response:
            assert response.status == 429
            assert (await response.text()).startswith("modal-http: ")
        writer.close()
        await until(lambda: target.active == 0)


async def test_requests_go_to_the_least_loaded_container() -> None:
    targets = [await FakeTarget(f"ta-{number}", hang).start() for number in range(3)]
    async with running() as ingress:
        url = await add(ingress, FakeServer(*targets))
        writers = [(await raw(url, GET))[1] for _ in range(6)]
        await until(lambda: [target.active for target in targets] == [2, 2, 2])
        for writer in writers:
            writer.close()


async def test_a_session_stays_with_its_container() -> None:
    targets = [await FakeTarget(f"ta-{number}", answering(OK)).start() for number in range(3)]
    async with running() as ingress, aiohttp.ClientSession() as client:
        url = await add(ingress, FakeServer(*targets))
        for _ in range(9):
            async with client.get(url, headers={"Modal-Session-ID": "s-1"}) as response:
                assert response.status == 200
    assert sorted(len(target.answer.heads) for target in targets) == [0, 0, 9]  # type: ignore[attr-defined]


async def test_a_container_that_refuses_connections_is_passed_over() -> None:
    gone, there = await FakeTarget("ta-0", hang).start(), await FakeTarget("ta-1", answering(OK)).start()
    gone.stop()
    async with running() as ingress, aiohttp.ClientSession() as client:
        url = await add(ingress, FakeServer(gone, there))
        async with client.post(url, data=b"") as response:
            assert response.status == 200
        there.stop()
        there.answer = hang
    async with running() as ingress, aiohttp.ClientSession() as client:
        url = await add(ingress, FakeServer(gone))
        async with client.get(url) as response:
            assert response.status == 502


@pytest.mark.parametrize(
    "said", [b"", b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: c"]
)
async def test_a_server_that_dies_or_babbles_before_its_answer_is_a_502(said: bytes) -> None:
    target = await FakeTarget("ta-1", answering(said, close=True)).start()
    async with running() as ingress, aiohttp.ClientSession() as client:
        url = await add(ingress, FakeServer(target))
        async with client.get(url) as response:
            assert response.status == 502
            assert (await response.text()).startswith("modal-http: ")


@pytest.mark.parametrize(
    "framing", [b"Transfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n", b"Content-Length: 9\r\n\r\nsome"]
)
async def test_a_server_that_dies_in_its_answer_cuts_the_client_off_visibly(framing: bytes) -> None:
    target = await FakeTarget("ta-1", answering(b"HTTP/1.1 200 OK\r\n" + framing, close=True)).start()
    async with running() as ingress, aiohttp.ClientSession() as client:
        url = await add(ingress, FakeServer(target))
        async with client.get(url) as response:
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()
    assert target.active == 0


@pytest.mark.parametrize(
    "more",
    [b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ne", b"x"],
)
async def test_what_a_server_says_after_its_answer_is_not_taken_for_the_next_one(more: bytes) -> None:
    target = await FakeTarget("ta-1", answering(OK + more)).start()
    async with running() as ingress, aiohttp.ClientSession() as client:
        url = await add(ingress, FakeServer(target))
        for _ in range(3):
            async with client.get(url) as response:
                assert await response.read() == b"ok"


# Leaving


@pytest.mark.parametrize("phase", ["before the answer", "in the answer"])
async def test_a_client_that_leaves_closes_the_servers_connection_within_ten_milliseconds(phase: str) -> None:
    got, ended = asyncio.Event(), asyncio.Event()

    async def watch(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        if phase == "in the answer":
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
        got.set()
        await reader.read()
        ended.set()

    async def leave() -> float:
        got.clear(), ended.clear()
        reader, writer = await raw(url, GET)
        await got.wait()
        if phase == "in the answer":
            await reader.readuntil(b"1\r\nx\r\n")
        before = time.perf_counter()
        writer.close()
        await ended.wait()
        return time.perf_counter() - before

    target = await FakeTarget("ta-1", watch).start()
    async with running() as ingress:
        url = await add(ingress, FakeServer(target))
        await best_of(leave, below=0.01)
        await until(lambda: target.active == 0)


async def test_a_server_that_is_removed_finishes_what_it_serves_and_takes_nothing_new() -> None:
    go = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        await go.wait()
        writer.write(OK)
        await reader.read()

    target = await FakeTarget("ta-1", slow).start()
    async with running() as ingress:
        url = await add(ingress, FakeServer(target))
        reader, writer = await raw(url, GET)
        await until(lambda: target.active)
        await ingress.remove("s")
        with pytest.raises(ConnectionRefusedError):
            await raw(url, GET)
        go.set()
        assert (await reader.read()).endswith(b"ok")  # and then the connection is closed
        await until(lambda: target.closed == 1)
        writer.close()


async def test_closing_the_ingress_also_ends_what_a_removed_server_still_serves() -> None:
    target = await FakeTarget("ta-1", hang).start()
    async with running() as ingress:
        url = await add(ingress, FakeServer(target))
        reader, writer = await raw(url, GET)
        await until(lambda: target.active)
        await ingress.remove("s")
    assert target.active == 0
    assert await reader.read() == b""
    writer.close()


# Proxy authorization


async def test_proxy_authorization_in_modals_words_and_kept_from_the_server() -> None:
    answer = answering(OK)
    target = await FakeTarget("ta-1", answer).start()
    right = {"Modal-Key": "wk-1", "Modal-Secret": "ws-1"}
    async with running() as ingress, aiohttp.ClientSession() as client:
        url = await add(ingress, FakeServer(target), requires_proxy_auth=True)
        async with client.get(url, headers={"Modal-Key": "wk-1"}) as response:
            assert response.status == 401
            assert await response.text() == "modal-http: missing credentials for proxy authorization"
        async with client.get(url, headers={**right, "Modal-Secret": "no"}) as response:
            assert response.status == 401
            assert await response.text() == "modal-http: invalid credentials for proxy authorization"
        async with client.get(url, headers=right) as response:
            assert response.status == 200
    assert len(answer.heads) == 1
    assert b"modal-" not in answer.heads[0].lower()


# WebSockets


async def test_a_websocket_passes_untouched_both_ways() -> None:
    async def echo(ws: Any) -> None:
        assert ws.request.headers["X-One"] == "1"
        try:
            async for message in ws:
                await ws.send(message)
        except websockets.ConnectionClosed:
            closed.append(ws.close_code)

    closed: list[int] = []
    async with websockets.serve(echo, "127.0.0.1", 0, subprotocols=["p"]) as upstream:
        target = FakeTarget("ta-1", hang)
        target._port = next(iter(upstream.sockets)).getsockname()[1]
        async with running() as ingress:
            url = (await add(ingress, FakeServer(target))).replace("http", "ws")
            async with websockets.connect(
                url + "/x", subprotocols=["p"], additional_headers={"X-One": "1"}, compression="deflate"
            ) as ws:
                assert ws.subprotocol == "p"
                await ws.send("hello " * 1000)
                assert await ws.recv() == "hello " * 1000
                await ws.send(bytes(500_000))
                assert await ws.recv() == bytes(500_000)
                assert target.active == 1
                await ws.close(4001)
            await until(lambda: target.active == 0)
            assert closed == [4001]


async def test_a_server_that_refuses_a_websocket_answers_as_it_likes() -> None:
    target = await FakeTarget("ta-1", answering(b"HTTP/1.1 418 Teapot\r\nContent-Length: 2\r\n\r\nno")).start()
    async with running() as ingress:
        url = await add(ingress, FakeServer(target))
        with pytest.raises(websockets.InvalidStatus) as refused:
            await websockets.connect(url.replace("http", "ws"))
        assert refused.value.response.status_code == 418
        assert refused.value.response.body == b"no"


async def test_a_client_that_does_not_read_its_answers_stalls_nobody_else_on_the_kept_connection() -> None:
    answer = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n" + bytes(60000))
    target = await FakeTarget("ta-1", answer).start()
    async with running() as ingress, aiohttp.ClientSession() as client:
        url = await add(ingress, FakeServer(target))
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
