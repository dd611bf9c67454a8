"""What tests of `/chat/ws` have in common: a client, and settings."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

import websockets
from websockets.asyncio.client import ClientConnection, connect

from infra.settings import Model, Models, Security, Settings, Socket
from tests.web.conftest import MODEL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.web.conftest import Json, Served


def prompt(script: Json | None = None, **more: Any) -> Json:
    return {"model-name": MODEL, "prompt": "one two three", "x_scripted": script or {}, **more}


class Client:
    """A client that says JSON and reads frames."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def say(self, frame: Json | str | bytes) -> None:
        await self.socket.send(json.dumps(frame) if isinstance(frame, dict) else frame)

    async def hear(self) -> str:
        async with asyncio.timeout(20):
            frame = await self.socket.recv()
        assert isinstance(frame, str)
        return frame

    async def hear_all(self, count: int) -> list[str]:
        return [await self.hear() for _ in range(count)]

    async def told(self) -> Json:
        frame: Json = json.loads(await self.hear())
        return frame

    async def closed(self) -> tuple[int | None, str | None]:
        """Read what is left, and then why it was closed."""
        with contextlib.suppress(websockets.ConnectionClosed):
            while True:
                await self.hear()
        return self.socket.close_code, self.socket.close_reason

    def vanish(self) -> None:
        self.socket.transport.abort()


@contextlib.asynccontextmanager
async def connected(served: Served, query: str = "", **options: Any) -> AsyncIterator[Client]:
    async with connect(served.url.replace("http", "ws") + "/chat/ws" + query, **options) as socket:
        yield Client(socket)


def configured(*, security: Json | None = None, **socket: Any) -> Settings:
    model = Model(id="scripted", name=MODEL, local_engine="scripted")
    return Settings(
        models=Models(available_models=(model,)), socket=Socket(**socket), security=Security(**(security or {}))
    )
