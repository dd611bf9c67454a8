"""Blobs over HTTP: clients PUT what is too large for a message and GET it back.

Imported when the first of them comes: aiohttp takes as long as the rest of the emulator's start.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from aiohttp import web

from emulator.ids import new_id
from emulator.protocol.volume_pages import VolumePages

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from pathlib import Path

    from emulator.storage.content import BlobStore
    from emulator.storage.transfers import Transfers

MAX_BLOB_BYTES = 8 << 30


async def serve(
    blobs: BlobStore, transfers: Transfers, app_page: Callable[[str], str | None], listener: socket.socket
) -> web.AppRunner:
    """Serve on an open listener, until the answer's `cleanup`."""
    pages = BlobPages(blobs)
    app = web.Application(client_max_size=MAX_BLOB_BYTES)
    app.router.add_put("/blobs/{blob_id}", pages.put)
    app.router.add_get("/blobs/{blob_id}", pages.get)
    VolumePages(transfers).add_to(app)

    async def page(request: web.Request) -> web.Response:
        if (text := app_page(request.match_info["app_id"])) is None:
            raise web.HTTPNotFound(text="no such app")
        return web.Response(text=text, content_type="text/html")

    for path in ("/apps/{app_id}", "/apps/{app_id}/logs"):
        app.router.add_get(path, page)
    app.router.add_route("*", "/streams{path:.*}", no_streams)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.SockSite(runner, listener).start()
    return runner


async def no_streams(_: web.Request) -> web.Response:
    """In the words of Modal's streams service, to which the client would else turn."""
    error = {"code": "unimplemented", "message": "The emulator does not implement modal.experimental.Stream"}
    return web.json_response({"error": error}, status=web.HTTPNotImplemented.status_code)


class BlobPages:
    """`/blobs/{id}`: ids that were issued, which nobody can guess."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs

    async def put(self, request: web.Request) -> web.Response:
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

    async def get(self, request: web.Request) -> web.FileResponse:
        target = self._path(request)
        if not target.exists():
            raise web.HTTPNotFound(text=f"no blob {target.name}")
        return web.FileResponse(target)

    def _path(self, request: web.Request) -> Path:
        try:
            return self._blobs.path(request.match_info["blob_id"])
        except ValueError as error:
            raise web.HTTPNotFound(text=str(error)) from error
