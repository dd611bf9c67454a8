"""An app that does nothing wrong by itself, for tests of what is done to it."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from typing import TYPE_CHECKING, Any

import modal

if TYPE_CHECKING:
    from collections.abc import Iterator

app = modal.App("faulty")


def free_port() -> int:
    """Containers that are threads have the machine's ports, which other tests use too."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


PORT = int(os.environ.get("TOWER_PORT") or free_port())


@app.function()
def double(x: int) -> int:
    return 2 * x


@app.function(startup_timeout=20)
def slow(x: int) -> int:
    return x


@app.cls()
class Counter:
    @modal.enter()
    def start(self) -> None:
        self.count = 0

    @modal.method()
    def next(self) -> int:
        self.count += 1
        return self.count


@app.function()
def items(count: int) -> Iterator[int]:
    yield from range(count)


def events(count: int) -> Iterator[bytes]:
    for number in range(count):
        yield b"data: %d\n\n" % number


@app.function()
@modal.concurrent(max_inputs=10)
@modal.asgi_app()
def site() -> Any:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            for number in range(5):
                await send({"type": "websocket.send", "text": f"{number}" * 200})
            while (await receive())["type"] != "websocket.disconnect":
                pass
            print("the socket's client has left")
            return
        sized = [(b"content-length", b"45")] if scope["path"] == "/sized" else []
        await send({"type": "http.response.start", "status": 200, "headers": sized})
        for event in events(5):
            await send({"type": "http.response.body", "body": event, "more_body": True})
        if scope["path"] == "/endless":
            while (await receive())["type"] != "http.disconnect":
                pass
            print("the reader has left")
            return
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    return application


@app.server(port=PORT, env={"TOWER_PORT": str(PORT)}, unauthenticated=True, max_containers=1)
class Tower:
    @modal.enter()
    def start(self) -> None:
        listening = threading.Event()
        threading.Thread(target=lambda: asyncio.run(tower(listening)), daemon=True).start()
        listening.wait()


async def tower(listening: threading.Event) -> None:
    from aiohttp import web

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for event in events(5):
            await response.write(event)
        return response

    async def talk(request: web.Request) -> web.WebSocketResponse:
        response = web.WebSocketResponse()
        await response.prepare(request)
        for number in range(5):
            await response.send_str(f"{number}" * 200)
        await response.receive()
        return response

    application = web.Application()
    application.add_routes([web.get("/events", stream), web.get("/socket", talk)])
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", PORT).start()
    listening.set()
    await asyncio.Event().wait()
