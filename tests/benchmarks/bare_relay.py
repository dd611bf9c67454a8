"""The least that a Python gateway can do: pure ASGI and aiohttp's client, bytes in, bytes out, and no feature at all.

It watches nobody leave, hides no failure and knows no dialect. A feature's price is what a gateway costs above it.
"""

from __future__ import annotations

import os
from typing import Any

import aiohttp

UPSTREAM = "BARE_RELAY_UPSTREAM"
"""The environment variable that names the engine's address."""

Scope = dict[str, Any]


class BareRelay:
    """An ASGI application: whatever is posted is posted to `upstream`, and what that says is said."""

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0)
            self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
        headers = {"Content-Type": "application/json"}
        async with self._session.post(self._upstream + scope["path"], data=body, headers=headers) as answer:
            kind = answer.headers["Content-Type"].encode()
            start = {"type": "http.response.start", "status": answer.status, "headers": [(b"content-type", kind)]}
            await send(start)
            async for data in answer.content.iter_any():
                await send({"type": "http.response.body", "body": data, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def _live(self, receive: Any, send: Any) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.shutdown" and self._session is not None:
                await self._session.close()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return


def create() -> BareRelay:
    """uvicorn's factory."""
    return BareRelay(os.environ[UPSTREAM])
