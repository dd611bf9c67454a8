"""What a Server's callers see when it can not serve them, and what a Server sees of callers who leave."""

from __future__ import annotations

import asyncio
import time

import aiohttp
import pytest

from tests.emulator.ingress_kit import (
    GET,
    OK,
    FakeServer,
    FakeTarget,
    add_server,
    answering,
    best_of,
    hang,
    raw,
    read_head,
    running,
    until,
)

# No container, too many requests, broken servers


async def test_without_a_container_it_answers_503_and_counts_the_demand() -> None:
    server = FakeServer()
    async with running() as ingress, aiohttp.ClientSession() as client:
        url = await add_server(ingress, server)
        async with client.get(url) as response:
            assert response.status == 503
            assert (await response.text()).startswith("modal-http: ")
    assert server.demanded == 1


async def test_above_max_concurrency_it_answers_429() -> None:
    target = await FakeTarget("ta-1", hang).start()
    async with running() as ingress, aiohttp.ClientSession() as client:
        url = await add_server(ingress, FakeServer(target, max_concurrency=1))
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
        url = await add_server(ingress, FakeServer(*targets))
        writers = [(await raw(url, GET))[1] for _ in range(6)]
        await until(lambda: [target.active for target in targets] == [2, 2, 2])
        for writer in writers:
            writer.close()


async def test_a_session_stays_with_its_container() -> None:
    targets = [await FakeTarget(f"ta-{number}", answering(OK)).start() for number in range(3)]
    async with running() as ingress, aiohttp.ClientSession() as client:
        url = await add_server(ingress, FakeServer(*targets))
        for _ in range(9):
            async with client.get(url, headers={"Modal-Session-ID": "s-1"}) as response:
                assert response.status == 200
    assert sorted(len(target.answer.heads) for target in targets) == [0, 0, 9]  # type: ignore[attr-defined]


async def test_a_container_that_refuses_connections_is_passed_over() -> None:
    gone, there = await FakeTarget("ta-0", hang).start(), await FakeTarget("ta-1", answering(OK)).start()
    gone.stop()
    async with running() as ingress, aiohttp.ClientSession() as client:
        url = await add_server(ingress, FakeServer(gone, there))
        async with client.post(url, data=b"") as response:
            assert response.status == 200
        there.stop()
        there.answer = hang
    async with running() as ingress, aiohttp.ClientSession() as client:
        url = await add_server(ingress, FakeServer(gone))
        async with client.get(url) as response:
            assert response.status == 502


@pytest.mark.parametrize(
    "said", [b"", b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: c"]
)
async def test_a_server_that_dies_or_babbles_before_its_answer_is_a_502(said: bytes) -> None:
    target = await FakeTarget("ta-1", answering(said, close=True)).start()
    async with running() as ingress, aiohttp.ClientSession() as client:
        url = await add_server(ingress, FakeServer(target))
        async with client.get(url) as response:
            assert response.status == 502
            assert (await response.text()).startswith("modal-http: ")


@pytest.mark.parametrize(
    "framing", [b"Transfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n", b"Content-Length: 9\r\n\r\nsome"]
)
async def test_a_server_that_dies_in_its_answer_cuts_the_client_off_visibly(framing: bytes) -> None:
    target = await FakeTarget("ta-1", answering(b"HTTP/1.1 200 OK\r\n" + framing, close=True)).start()
    async with running() as ingress, aiohttp.ClientSession() as client:
        url = await add_server(ingress, FakeServer(target))
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
        url = await add_server(ingress, FakeServer(target))
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
        url = await add_server(ingress, FakeServer(target))
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
        url = await add_server(ingress, FakeServer(target))
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
        url = await add_server(ingress, FakeServer(target))
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
        url = await add_server(ingress, FakeServer(target), requires_proxy_auth=True)
        async with client.get(url, headers={"Modal-Key": "wk-1"}) as response:
            assert response.status == 401
            assert await response.text() == "modal-http: missing credentials for proxy authorization\n"
        async with client.get(url, headers={**right, "Modal-Secret": "no"}) as response:
            assert response.status == 401
            assert await response.text() == "modal-http: invalid credentials for proxy authorization\n"
        async with client.get(url, headers=right) as response:
            assert response.status == 200
    assert len(answer.heads) == 1
    assert b"modal-" not in answer.heads[0].lower()
