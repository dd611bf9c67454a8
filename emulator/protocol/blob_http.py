"""The HTTP side of blobs: clients PUT what is too large for a message and GET it back. Loopback only."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING

from aiohttp import web

from emulator.ids import new_id

if TYPE_CHECKING:
    from pathlib import Path

    from emulator.storage.content import BlobStore

MAX_BLOB_BYTES = 8 << 30


class BlobServer:
    """Serves `/blobs/{id}` on a port of 127.0.0.1: ids that were issued, which nobody can guess."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self._runner: web.AppRunner | None = None
        self.port = 0

    async def start(self, port: int = 0) -> None:
        app = web.Application(client_max_size=MAX_BLOB_BYTES)
        app.router.add_put("/blobs/{blob_id}", self._put)
        app.router.add_get("/blobs/{blob_id}", self._get)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        await asyncio.to_thread(self._blobs.close)

    def url(self, blob_id: str) -> str:
        return f"http://127.0.0.1:{self.port}/blobs/{blob_id}"

    async def _put(self, request: web.Request) -> web.Response:
        partial = self._path(request).with_suffix(f".{new_id('tmp')}")
        digest = hashlib.md5(usedforsecurity=False)
        try:
            with partial.open("wb") as file:
                # Not `iter_chunks`: on an empty body it spins for ever.
                async for chunk in request.content.iter_any():
                    digest.update(chunk)
                    file.write(chunk)
            partial.replace(self._path(request))  # no blob any more if it was discarded meanwhile
        except OSError as error:
            said = f"the emulator can not use its disk: {error}"
            return web.Response(status=web.HTTPInsufficientStorage.status_code, text=said)
        finally:
            partial.unlink(missing_ok=True)
        return web.Response(headers={"ETag": f'"{digest.hexdigest()}"'})

    async def _get(self, request: web.Request) -> web.FileResponse:
        target = self._path(request)
        if not target.exists():
            raise web.HTTPNotFound(text=f"no blob {target.name}")
        return web.FileResponse(target)

    def _path(self, request: web.Request) -> Path:
        try:
            return self._blobs.path(request.match_info["blob_id"])
        except ValueError as error:
            raise web.HTTPNotFound(text=str(error)) from error
