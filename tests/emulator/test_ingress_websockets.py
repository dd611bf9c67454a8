"""WebSockets to web functions and to Servers."""

from __future__ import annotations

import time
from typing import Any

import pytest
import websockets

from tests.emulator.ingress_kit import (
    FakeServer,
    FakeTarget,
    add_function,
    add_server,
    answering,
    best_of,
    exchange,
    hang,
    running,
    until,
)


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
        url, function = await add_function(ingress, talk)
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
        url, function = await add_function(ingress, talk)
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
        url, function = await add_function(ingress, talk)
        await best_of(vanish, below=0.01)


async def test_a_websocket_that_the_application_refuses_is_a_403() -> None:
    async def refuse(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.close"})

    async with running() as ingress:
        url, _ = await add_function(ingress, refuse)
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
        url, _ = await add_function(ingress, broken)
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
        url, _ = await add_function(ingress, talk)
        ws = await websockets.connect(url.replace("http", "ws"))
        ws.protocol.send_text(b"\xff")
        ws.send_data()
        with pytest.raises(websockets.ConnectionClosed):
            await ws.recv()
        assert ws.close_code == 1007


async def test_a_broken_websocket_handshake_is_refused_without_an_input() -> None:
    upgrade = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    async with running() as ingress:
        url, function = await add_function(ingress, talk)
        assert (await exchange(url, upgrade + b"\r\n")).startswith(b"HTTP/1.1 426")
        answer = await exchange(url, upgrade + b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: no\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 400")
        assert not function.inputs


# To Servers


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
            url = (await add_server(ingress, FakeServer(target))).replace("http", "ws")
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
        url = await add_server(ingress, FakeServer(target))
        with pytest.raises(websockets.InvalidStatus) as refused:
            await websockets.connect(url.replace("http", "ws"))
        assert refused.value.response.status_code == 418
        assert refused.value.response.body == b"no"
