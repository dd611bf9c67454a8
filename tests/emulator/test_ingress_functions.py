"""Web functions through the ingress: what HTTP clients and ASGI applications see of each other."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import aiohttp
import pytest

from tests.emulator.ingress_kit import (
    GET,
    TurnedClock,
    add_function,
    best_of,
    echo,
    exchange,
    hold,
    raw,
    running,
    until,
)


async def test_a_request_reaches_the_application_and_its_answer_comes_back() -> None:
    async with running() as ingress, aiohttp.ClientSession() as client:
        url, function = await add_function(ingress, echo)
        async with client.post(url + "/a%20b?x=1&y=%26", data=b"hello", headers={"X-One": "1"}) as response:
            assert (response.status, await response.read(), response.headers["x-app"]) == (201, b"hello", "echo")
    scope = function.inputs[0].scope
    assert scope["type"] == "http"
    assert scope["method"] == "POST"
    assert scope["path"] == "/a b"
    assert scope["raw_path"] == b"/a%20b"
    assert scope["query_string"] == b"x=1&y=%26"
    assert scope["root_path"] == ""
    assert (b"x-one", b"1") in scope["headers"]
    assert scope["client"][0] == "127.0.0.1"
    assert "spec_version" not in scope["asgi"]


async def test_a_small_body_is_one_message_with_nothing_more_to_come() -> None:
    async with running() as ingress:
        url, function = await add_function(ingress, echo)
        await exchange(url, b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi")
    (message,) = function.inputs[0].received
    assert (message.http_request.body, message.http_request.more_body) == (b"hi", False)


async def test_several_requests_share_one_connection_also_when_pipelined() -> None:
    one = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n"
    last = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1\r\n\r\n3"
    async with running() as ingress:
        url, _ = await add_function(ingress, echo)
        answer = await exchange(url, one + b"1" + one + b"2" + last)
    assert answer.count(b"HTTP/1.1 201 Created") == 3
    assert [part[:1] for part in answer.split(b"\r\n\r\n")[1:]] == [b"1", b"2", b"3"]


async def test_an_uploaded_hundred_megabytes_arrive_whole_and_are_held_back_by_a_slow_application() -> None:
    taken = 0
    go = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        nonlocal taken
        more = True
        while more:
            message = await receive()
            taken += len(message["body"])
            more = message["more_body"]
            await go.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    size = 100 * 1024 * 1024
    sent = 0

    async def upload() -> Any:
        nonlocal sent
        for _ in range(100):
            yield bytes(1024 * 1024)
            sent += 1024 * 1024

    async with running() as ingress, aiohttp.ClientSession() as client:
        url, _ = await add_function(ingress, slow)
        request = asyncio.create_task(client.post(url, data=upload()))
        await until(lambda: taken)
        before = -1
        while before != sent:  # until the sockets' own buffers are full
            before = sent
            await asyncio.sleep(0.05)
        assert sent < 20 * 1024 * 1024
        go.set()
        response = await request
        assert response.status == 200
    assert taken == size


async def test_a_stream_is_passed_on_piece_by_piece() -> None:
    go = asyncio.Event()

    async def stream(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        await go.wait()
        await send({"type": "http.response.body", "body": b"data: 2\n\n", "more_body": False})

    async with running() as ingress, aiohttp.ClientSession() as client:
        url, _ = await add_function(ingress, stream)
        async with client.get(url) as response:
            assert await response.content.readany() == b"data: 1\n\n"
            go.set()
            assert await response.content.read() == b"data: 2\n\n"


async def test_the_head_of_an_answer_leaves_before_its_body_exists() -> None:
    async def begin(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.Event().wait()

    async with running() as ingress:
        url, _ = await add_function(ingress, begin)
        reader, writer = await raw(url, GET)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")
        writer.close()


async def test_a_slow_reader_holds_back_only_its_own_application() -> None:
    produced = 0

    async def endless(scope: Any, receive: Any, send: Any) -> None:
        nonlocal produced
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})
            produced += 65536

    async with running() as ingress:
        url, _ = await add_function(ingress, endless)
        _, writer = await raw(url, GET)
        before = -1
        while before != produced:
            before = produced
            await asyncio.sleep(0.05)
        assert produced < 20 * 1024 * 1024
        writer.close()


async def test_head_answers_with_headers_alone_and_keeps_the_connection() -> None:
    async def page(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        await send({"type": "http.response.body", "body": b"hello"})

    async with running() as ingress:
        url, _ = await add_function(ingress, page)
        last = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        answer = await exchange(url, b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n" + last)
    head, get, body = answer.split(b"\r\n\r\n")
    assert b"Content-Length: 5" in head
    assert get.startswith(b"HTTP/1.1 200")
    assert body == b"hello"


async def test_http_1_0_gets_an_unframed_body_ended_by_closing() -> None:
    async with running() as ingress:
        url, _ = await add_function(ingress, hold)
        reader, writer = await raw(url, b"GET / HTTP/1.0\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"chunked" not in head
        assert await reader.read(5) == b"first"
        writer.close()


async def test_a_client_that_waits_for_100_continue_gets_it() -> None:
    async with running() as ingress:
        url, _ = await add_function(ingress, echo)
        head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
        reader, writer = await raw(url, head)
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"hi")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 201")
        assert await reader.readexactly(2) == b"hi"
        writer.close()


async def test_a_request_whose_body_is_late_is_handed_on_before_the_runtime_gives_up() -> None:
    clock = TurnedClock()
    async with running(clock) as ingress:
        url, function = await add_function(ingress, echo)
        _, writer = await raw(url, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n")
        await until(lambda: clock.pending(1.0))
        clock.turn(1.0)
        await until(lambda: function.inputs[0].received)
        message = function.inputs[0].received[0].http_request
        assert (message.body, message.more_body) == (b"", True)
        writer.close()


@pytest.mark.parametrize("half", [False, True], ids=["closes", "half-closes"])
async def test_an_application_learns_within_ten_milliseconds_that_its_client_left(half: bool) -> None:
    async def leave() -> float:
        reader, writer = await raw(url, GET)
        await reader.readuntil(b"first")
        before = time.perf_counter()
        writer.write_eof() if half else writer.close()
        await until(lambda: "http_disconnect" in function.inputs[-1].kinds())
        took = time.perf_counter() - before
        await until(lambda: len(function.left) == len(function.inputs))
        writer.close()
        return took

    async with running() as ingress:
        url, function = await add_function(ingress, hold)
        await best_of(leave, below=0.01)
        assert not any(web_input.cancelled for web_input in function.inputs)


async def test_an_application_that_ignores_the_disconnect_is_cancelled_after_the_grace_period() -> None:
    async def deaf(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    clock = TurnedClock()
    async with running(clock) as ingress:
        url, function = await add_function(ingress, deaf)
        _, writer = await raw(url, GET)
        await until(lambda: function.inputs and function.inputs[0].received)
        writer.close()
        await until(lambda: "http_disconnect" in function.inputs[0].kinds() and clock.pending(10.0))
        assert not function.inputs[0].cancelled
        clock.turn(10.0)
        await until(lambda: function.inputs[0].cancelled and function.left)


async def test_an_application_that_fails_before_its_answer_is_a_500_in_modals_words() -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("no")

    async with running() as ingress, aiohttp.ClientSession() as client:
        url, _ = await add_function(ingress, broken)
        async with client.get(url) as response:
            assert response.status == 500
            assert await response.text() == "modal-http: internal error: status Failure: ValueError('no')\n"


async def test_an_application_that_fails_in_its_answer_cuts_it_visibly() -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"some", "more_body": True})
        raise ValueError("no")

    async with running() as ingress:
        url, _ = await add_function(ingress, broken)
        answer = await exchange(url, GET)
    assert answer.endswith(b"4\r\nsome\r\n")


async def test_an_answer_shorter_than_it_announced_closes_the_connection() -> None:
    async def short(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
        await send({"type": "http.response.body", "body": b"some"})

    async with running() as ingress:
        url, _ = await add_function(ingress, short)
        assert (await exchange(url, GET)).endswith(b"\r\n\r\nsome")


async def test_a_response_header_can_not_break_out_of_its_line() -> None:
    async def split(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x", b"1\r\nset-cookie: a=b")]})

    async with running() as ingress, aiohttp.ClientSession() as client:
        url, _ = await add_function(ingress, split)
        async with client.get(url) as response:
            assert response.status == 500
            assert "Set-Cookie" not in response.headers


@pytest.mark.parametrize("lengths", [(b"x",), (b"-1",), (b"1", b"2")])
async def test_a_response_length_that_is_none_is_the_applications_failure(lengths: tuple[bytes, ...]) -> None:
    async def odd(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-length", length) for length in lengths]
        await send({"type": "http.response.start", "status": 200, "headers": headers})

    async with running() as ingress, aiohttp.ClientSession() as client:
        url, _ = await add_function(ingress, odd)
        async with client.get(url) as response:
            assert response.status == 500
            assert "invalid Content-Length" in await response.text()


async def test_the_runtimes_own_408_is_passed_on() -> None:
    async def late(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 408})
        await send({"type": "http.response.body", "body": b"Missing request"})

    async with running() as ingress, aiohttp.ClientSession() as client:
        url, _ = await add_function(ingress, late)
        async with client.get(url) as response:
            assert (response.status, await response.text()) == (408, "Missing request")


async def test_an_application_that_works_on_after_its_answer_is_told_that_nobody_listens() -> None:
    async def background(scope: Any, receive: Any, send: Any) -> None:
        await echo(scope, receive, send)
        assert (await receive())["type"] == "http.disconnect"

    clock = TurnedClock()
    async with running(clock) as ingress, aiohttp.ClientSession() as client:
        url, function = await add_function(ingress, background)
        async with client.get(url) as response:
            assert response.status == 201
        await until(lambda: clock.pending(1.0))
        clock.turn(1.0)
        await until(lambda: function.left)
        assert function.inputs[0].error is None
        assert not function.inputs[0].cancelled


async def test_closing_the_ingress_lets_go_of_every_input() -> None:
    async with running() as ingress:
        url, function = await add_function(ingress, hold)
        reader, writer = await raw(url, GET)
        await reader.readuntil(b"first")
    assert function.left
    writer.close()
