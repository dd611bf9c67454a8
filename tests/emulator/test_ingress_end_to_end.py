"""HTTP through the whole emulator: deployed by the real client, served by Modal's own container runtime."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import websockets

from emulator.emulator import Emulator
from tests.emulator.heart_kit import modal, write_app
from tests.emulator.ingress_kit import best_of, raw, until
from tests.ports import free_port

if TYPE_CHECKING:
    from emulator.containers import Kind
    from emulator.logs import LogLine

pytestmark = pytest.mark.any_containers

APP = """
import modal

app = modal.App("web")


async def application(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"][::-1]})
        print("websocket left", message["code"])
        return
    if scope["path"] == "/fail":
        raise ValueError("no")
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-path", scope["raw_path"])]})
    if scope["path"] == "/wait":
        await send({"type": "http.response.body", "body": b"waiting", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        print("left")
        return
    if scope["path"] == "/count":
        size, more = 0, True
        while more:
            message = await receive()
            size, more = size + len(message["body"]), message["more_body"]
        await send({"type": "http.response.body", "body": str(size).encode()})
        return
    for number in range(200):
        await send({"type": "http.response.body", "body": b"data: %d\\n\\n" % number, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


@app.function()
@modal.concurrent(max_inputs=50)
@modal.asgi_app()
def site():
    return application


@app.server(port=8000, unauthenticated=False)
class Echo:
    @modal.enter()
    def start(self):
        import subprocess
        import sys
        self.process = subprocess.Popen([sys.executable, "-m", "http.server", "8000", "--bind", "127.0.0.1"])
"""


@pytest.fixture(scope="module")
def deployed(containers: Kind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Emulator, list[str]]]:
    said: list[str] = []

    def log(line: LogLine) -> None:
        said.append(line.text)

    folder: Path = tmp_path_factory.mktemp("web")
    with Emulator(containers=containers, log=log) as emulator:
        write_app(folder, APP.replace("8000", str(free_port())))
        deploy = modal(emulator, "deploy", "app.py", cwd=folder)
        assert deploy.returncode == 0, deploy.stdout + deploy.stderr
        yield emulator, said


async def test_a_stream_of_many_pieces_arrives_in_order(deployed: Any) -> None:
    emulator, _ = deployed
    async with aiohttp.ClientSession() as client, client.get(emulator.web_url("web", "site") + "/a%20b") as response:
        assert response.headers["x-path"] == "/a%20b"
        assert await response.read() == b"".join(b"data: %d\n\n" % number for number in range(200))


async def test_uploads_of_every_size_arrive_whole(deployed: Any) -> None:
    emulator, _ = deployed
    async with aiohttp.ClientSession() as client:
        for size in (0, 1, 100_000, 20_000_000):
            async with client.post(emulator.web_url("web", "site") + "/count", data=bytes(size)) as response:
                assert await response.text() == str(size)


async def test_the_application_hears_at_once_that_its_client_left(deployed: Any) -> None:
    emulator, said = deployed
    url = emulator.web_url("web", "site")

    async def leave() -> float:
        said.clear()
        reader, writer = await raw(url, b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"waiting")
        before = time.perf_counter()
        writer.close()
        await until(lambda: any("left" in text for text in said))
        return time.perf_counter() - before

    await best_of(leave, below=0.1)


async def test_an_application_that_fails_is_a_500_with_its_error(deployed: Any) -> None:
    emulator, _ = deployed
    async with aiohttp.ClientSession() as client, client.get(emulator.web_url("web", "site") + "/fail") as response:
        assert response.status == 500
        assert await response.text() == "modal-http: internal error: status Failure: ValueError('no')\n"


async def test_websockets_carry_messages_both_ways(deployed: Any) -> None:
    emulator, said = deployed
    async with websockets.connect(emulator.web_url("web", "site").replace("http", "ws")) as ws:
        for text in ("one", "zwei ä"):
            await ws.send(text)
            assert await ws.recv() == text[::-1]
        await ws.close(4005)
    await until(lambda: any("websocket left 4005" in text for text in said))


async def test_a_server_asks_for_credentials_starts_on_demand_and_answers(deployed: Any, tmp_path: Path) -> None:
    emulator, _ = deployed
    url = emulator.web_url("web", "Echo")
    async with aiohttp.ClientSession() as client:
        async with client.get(url) as response:
            assert response.status == 401
        created = modal(emulator, "workspace", "proxy-tokens", "create", cwd=tmp_path)
        assert created.returncode == 0, created.stdout + created.stderr
        token = next(iter(emulator.core.state.proxy_tokens.values()))
        headers = {"Modal-Key": token.token_id, "Modal-Secret": token.secret}
        async with asyncio.timeout(30):
            statuses = set()
            while 200 not in statuses:
                async with client.get(url, headers=headers) as response:
                    statuses.add(response.status)
                    body = await response.text()
        assert statuses <= {503, 200}
        assert "Directory listing" in body
