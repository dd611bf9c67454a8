"""Web functions through the ingress: what HTTP clients and ASGI applications see of each other."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import aiohttp
import pytest
import websockets

from tests.emulator.ingress_kit import FakeFunction, TurnedClock, best_of, exchange, raw, running, until

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the body it got."""
    body = b""
    while True:
        message = await receive()
        body += message["body"]
        if not message["more_body"]:
            break
    headers = [(b"content-length", str(len(body)).encode()), (b"x-app", b"echo")]
    await send({"type": "http.response.start", "status": 201, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def hold(scope: Any, receive: Any, send: Any) -> None:
    """Begins an answer and never ends it; returns once its client has left."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"first", "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass


async def add(ingress: Any, app: Any, **options: Any) -> tuple[str, FakeFunction]:
    function = FakeFunction(app)
    options = {"label": "app-fn", "requires_proxy_auth": False, **options}
    return await ingress.add_function("fn", backend=function, **options), function


async def test_a_request_reaches_the_application_and_its_answer_comes_back() -> None:
    async with running() as ingress, aiohttp.ClientSession() as client:
        url, function = await add(ingress, echo)
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
        url, function = await add(ingress, echo)
        await exchange(url, b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi")
    (message,) = function.inputs[0].received
    assert (message.http_request.body, message.http_request.more_body) == (b"hi", False)


async def test_several_requests_share_one_connection_also_when_pipelined() -> None:
    one = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n"
    last = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1\r\n\r\n3"
    async with running() as ingress:
        url, _ = await add(ingress, echo)
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
        url, _ = await add(ingress, slow)
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
        url, _ = await add(ingress, stream)
        async with client.get(url) as response:
            assert await response.content.readany() == b"data: 1\n\n"
            go.set()
            assert await response.content.read() == b"data: 2\n\n"


async def test_the_head_of_an_answer_leaves_before_its_body_exists() -> None:
    async def begin(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.Event().wait()

    async with running() as ingress:
        url, _ = await add(ingress, begin)
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
        url, _ = await add(ingress, endless)
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
        url, _ = await add(ingress, page)
        last = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        answer = await exchange(url, b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n" + last)
    head, get, body = answer.split(b"\r\n\r\n")
    assert b"Content-Length: 5" in head
    assert get.startswith(b"HTTP/1.1 200")
    assert body == b"hello"


async def test_http_1_0_gets_an_unframed_body_ended_by_closing() -> None:
    async with running() as ingress:
        url, _ = await add(ingress, hold)
        reader, writer = await raw(url, b"GET / HTTP/1.0\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"chunked" not in head
        assert await reader.read(5) == b"first"
        writer.close()


async def test_a_client_that_waits_for_100_continue_gets_it() -> None:
    async with running() as ingress:
        url, _ = await add(ingress, echo)
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
        url, function = await add(ingress, echo)
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
        url, function = await add(ingress, hold)
        await best_of(leave, below=0.01)
        assert not any(web_input.cancelled for web_input in function.inputs)


async def test_an_application_that_ignores_the_disconnect_is_cancelled_after_the_grace_period() -> None:
    async def deaf(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    clock = TurnedClock()
    async with running(clock) as ingress:
        url, function = await add(ingress, deaf)
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
        url, _ = await add(ingress, broken)
        async with client.get(url) as response:
            assert response.status == 500
            assert await response.text() == "modal-http: internal server error: status Failure: ValueError('no')"


async def test_an_application_that_fails_in_its_answer_cuts_it_visibly() -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"some", "more_body": True})
        raise ValueError("no")

    async with running() as ingress:
        url, _ = await add(ingress, broken)
        answer = await exchange(url, GET)
    assert answer.endswith(b"4\r\nsome\r\n")


async def test_an_answer_shorter_than_it_announced_closes_the_connection() -> None:
    async def short(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
        await send({"type": "http.response.body", "body": b"some"})

    async with running() as ingress:
        url, _ = await add(ingress, short)
        assert (await exchange(url, GET)).endswith(b"\r\n\r\nsome")


async def test_a_response_header_can_not_break_out_of_its_line() -> None:
    async def split(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x", b"1\r\nset-cookie: a=b")]})

    async with running() as ingress, aiohttp.ClientSession() as client:
        url, _ = await add(ingress, split)
        async with client.get(url) as response:
            assert response.status == 500
            assert "Set-Cookie" not in response.headers


@pytest.mark.parametrize("lengths", [(b"x",), (b"-1",), (b"1", b"2")])
async def test_a_response_length_that_is_none_is_the_applications_failure(lengths: tuple[bytes, ...]) -> None:
    async def odd(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-length", length) for length in lengths]
        await send({"type": "http.response.start", "status": 200, "headers": headers})

    async with running() as ingress, aiohttp.ClientSession() as client:
        url, _ = await add(ingress, odd)
        async with client.get(url) as response:
            assert response.status == 500
            assert "invalid Content-Length" in await response.text()


async def test_the_runtimes_own_408_is_passed_on() -> None:
    async def late(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 408})
        await send({"type": "http.response.body", "body": b"Missing request"})

    async with running() as ingress, aiohttp.ClientSession() as client:
        url, _ = await add(ingress, late)
        async with client.get(url) as response:
            assert (response.status, await response.text()) == (408, "Missing request")


async def test_after_150_seconds_without_an_answer_the_client_is_sent_to_a_result_url() -> None:
    go = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await go.wait()
        await echo(scope, receive, send)

    clock = TurnedClock()
    async with running(clock) as ingress, aiohttp.ClientSession() as client:
        url, function = await add(ingress, slow)
        post = asyncio.create_task(client.post(url + "/p?a=1", data=b"late", allow_redirects=False))
        await until(lambda: clock.pending(150.0))
        clock.turn(150.0)
        response = await post
        assert response.status == 303
        location = response.headers["Location"]
        assert location.startswith("/p?a=1&__modal_function_call_id=fc-")

        again = asyncio.create_task(client.get(url + location, allow_redirects=False))
        await until(lambda: clock.pending(150.0))
        clock.turn(150.0)
        location = (await again).headers["Location"]
        assert location.count("__modal_function_call_id") == 1

        final = asyncio.create_task(client.get(url + location))
        go.set()
        response = await final
        assert (response.status, await response.read()) == (201, b"late")
        assert len(function.inputs) == 1
        async with client.get(url + location) as response:
            assert response.status == 404


async def test_a_redeploy_does_not_lose_the_answer_behind_a_result_url() -> None:
    go = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await go.wait()
        await echo(scope, receive, send)

    clock = TurnedClock()
    async with running(clock) as ingress, aiohttp.ClientSession() as client:
        url, _ = await add(ingress, slow)
        post = asyncio.create_task(client.post(url, data=b"old", allow_redirects=False))
        await until(lambda: clock.pending(150.0))
        clock.turn(150.0)
        location = (await post).headers["Location"]
        await add(ingress, hold)
        go.set()
        async with client.get(url + location) as response:
            assert (response.status, await response.read()) == (201, b"old")


async def test_a_result_that_nobody_comes_for_is_dropped_and_its_input_cancelled() -> None:
    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    clock = TurnedClock()
    async with running(clock) as ingress, aiohttp.ClientSession() as client:
        url, function = await add(ingress, slow)
        get = asyncio.create_task(client.get(url, allow_redirects=False))
        await until(lambda: clock.pending(150.0))
        clock.turn(150.0)
        location = (await get).headers["Location"]
        await until(lambda: clock.pending(600.0))
        clock.turn(600.0)
        await until(lambda: "http_disconnect" in function.inputs[0].kinds() and clock.pending(10.0))
        clock.turn(10.0)
        await until(lambda: function.inputs[0].cancelled)
        async with client.get(url + location) as response:
            assert response.status == 404


async def test_the_twenty_first_redirect_is_a_504() -> None:
    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    clock = TurnedClock()
    statuses = []
    async with running(clock) as ingress, aiohttp.ClientSession() as client:
        url, _ = await add(ingress, slow)
        location = "/"
        for _ in range(21):
            get = asyncio.create_task(client.get(url + location, allow_redirects=False))
            await until(lambda: clock.pending(150.0))
            clock.turn(150.0)
            response = await get
            statuses.append(response.status)
            location = response.headers.get("Location", "")
    assert statuses == [303] * 20 + [504]


async def test_an_application_that_works_on_after_its_answer_is_told_that_nobody_listens() -> None:
    async def background(scope: Any, receive: Any, send: Any) -> None:
        await echo(scope, receive, send)
        assert (await receive())["type"] == "http.disconnect"

    clock = TurnedClock()
    async with running(clock) as ingress, aiohttp.ClientSession() as client:
        url, function = await add(ingress, background)
        async with client.get(url) as response:
            assert response.status == 201
        await until(lambda: clock.pending(1.0))
        clock.turn(1.0)
        await until(lambda: function.left)
        assert function.inputs[0].error is None
        assert not function.inputs[0].cancelled


async def test_closing_the_ingress_lets_go_of_every_input() -> None:
    async with running() as ingress:
        url, function = await add(ingress, hold)
        reader, writer = await raw(url, GET)
        await reader.readuntil(b"first")
    assert function.left
    writer.close()


# WebSockets


async def talk(scope: Any, receive: Any, send: Any) -> None:
    """Echoes until `bye`, then closes; accepts the first subprotocol offered."""
    assert (await receive())["type"] == "websocket.connect"
    offered = scope["subprotocols"]
    headers = [(b"x-app", b"talk")]
    await send({"type": "websocket.accept", "subprotocol": offered[0] if offered else None, "headers": headers})
    while (message := await receive())["type"] == "websocket.receive":
        if message["text"] == "bye":
            await send({"type": "websocket.close", "code": 4001, "reason": "said bye"})
            return
        await send({"type": "websocket.send", "text": message["text"], "bytes": message["bytes"]})


async def test_a_websocket_carries_text_and_bytes_both_ways_and_the_applications_close() -> None:
    async with running() as ingress:
        url, function = await add(ingress, talk)
        async with websockets.connect(url.replace("http", "ws") + "/chat?s=1", subprotocols=["a", "b"]) as ws:
            assert ws.subprotocol == "a"
            assert ws.response is not None
            assert ws.response.headers["x-app"] == "talk"
            await ws.send("grüße")
            assert await ws.recv() == "grüße"
            await ws.send(b"\x00\xff" * 100_000)
            assert await ws.recv() == b"\x00\xff" * 100_000
            await ws.send(["in ", "parts"])
            assert await ws.recv() == "in parts"
            await ws.send("bye")
            with pytest.raises(websockets.ConnectionClosed):
                await ws.recv()
            assert (ws.close_code, ws.close_reason) == (4001, "said bye")
    scope = function.inputs[0].scope
    assert (scope["type"], scope["path"], scope["query_string"]) == ("websocket", "/chat", b"s=1")


async def test_a_websocket_that_the_client_closes_tells_the_application_the_code() -> None:
    async with running() as ingress:
        url, function = await add(ingress, talk)
        async with websockets.connect(url.replace("http", "ws")) as ws:
            await ws.close(code=4002)
        await until(lambda: function.left)
        assert function.inputs[0].received[-1].websocket_disconnect.code == 4002
        assert not function.inputs[0].cancelled


async def test_a_websocket_that_vanishes_tells_the_application_at_once() -> None:
    async def vanish() -> float:
        ws = await websockets.connect(url.replace("http", "ws"))
        before = time.perf_counter()
        ws.transport.abort()
        await until(lambda: "websocket_disconnect" in function.inputs[-1].kinds())
        assert function.inputs[-1].received[-1].websocket_disconnect.code == 1006
        return time.perf_counter() - before

    async with running() as ingress:
        url, function = await add(ingress, talk)
        await best_of(vanish, below=0.01)


async def test_a_websocket_that_the_application_refuses_is_a_403() -> None:
    async def refuse(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.close"})

    async with running() as ingress:
        url, _ = await add(ingress, refuse)
        with pytest.raises(websockets.InvalidStatus) as refused:
            await websockets.connect(url.replace("http", "ws"))
        assert refused.value.response.status_code == 403


@pytest.mark.parametrize(("accepts", "seen"), [(False, 500), (True, 1011)])
async def test_a_websocket_whose_application_fails_says_so(accepts: bool, seen: int) -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        if accepts:
            await send({"type": "websocket.accept"})
        raise ValueError("no")

    async with running() as ingress:
        url, _ = await add(ingress, broken)
        if accepts:
            ws = await websockets.connect(url.replace("http", "ws"))
            with pytest.raises(websockets.ConnectionClosed):
                await ws.recv()
            assert ws.close_code == seen
        else:
            with pytest.raises(websockets.InvalidStatus) as refused:
                await websockets.connect(url.replace("http", "ws"))
            assert refused.value.response.status_code == seen


async def test_a_websocket_that_sends_what_is_no_utf8_is_closed_with_1007() -> None:
    async with running() as ingress:
        url, _ = await add(ingress, talk)
        ws = await websockets.connect(url.replace("http", "ws"))
        ws.protocol.send_text(b"\xff")
        ws.send_data()
        with pytest.raises(websockets.ConnectionClosed):
            await ws.recv()
        assert ws.close_code == 1007


async def test_a_broken_websocket_handshake_is_refused_without_an_input() -> None:
    upgrade = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    async with running() as ingress:
        url, function = await add(ingress, talk)
        assert (await exchange(url, upgrade + b"\r\n")).startswith(b"HTTP/1.1 426")
        answer = await exchange(url, upgrade + b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: no\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 400")
        assert not function.inputs
