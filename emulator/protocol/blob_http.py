"""The port of blobs: open from the start, served from the first connection on. Loopback only."""

from __future__ import annotations

import asyncio
import importlib
from typing import TYPE_CHECKING, Any

from emulator.protocol.server import bind

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from emulator.storage.content import BlobStore
    from emulator.storage.transfers import Transfers


class BlobServer:
    """Serves blobs, Volumes' blocks and apps' pages on a port of 127.0.0.1 (see `blob_pages`, `volume_pages`)."""

    def __init__(
        self, blobs: BlobStore, transfers: Transfers, app_page: Callable[[str], str | None] = lambda _app_id: None
    ) -> None:
        self._blobs = blobs
        self._app_page = app_page
        self._transfers = transfers
        self._listener: socket.socket | None = None
        self._serving: asyncio.Task[Any] | None = None
        self.port = 0

    async def start(self, port: int = 0) -> None:
        """Take connections. Raises `OSError` when the port is taken."""
        self._listener = bind(port)
        self.port = self._listener.getsockname()[1]
        asyncio.get_running_loop().add_reader(self._listener, self._first_connection)

    def _first_connection(self) -> None:
        """Somebody has connected, and waits in the listener's queue."""
        assert self._listener is not None
        asyncio.get_running_loop().remove_reader(self._listener)
        self._serving = asyncio.create_task(self._serve(self._listener))

    async def _serve(self, listener: socket.socket) -> Any:
        pages = await asyncio.to_thread(importlib.import_module, "emulator.protocol.blob_pages")
        return await pages.serve(self._blobs, self._transfers, self._app_page, listener)

    async def close(self) -> None:
        """Serve no more, and remove every blob. Harmless when repeated."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
        if self._serving is not None:
            await (await self._serving).cleanup()
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        self._serving = None
        await asyncio.to_thread(self._blobs.close)

    def app_url(self, app_id: str) -> str:
        """Of an app's page."""
        return self.address(f"apps/{app_id}")

    def url(self, blob_id: str) -> str:
        return self.address(f"blobs/{blob_id}")

    def address(self, path: str) -> str:
        """Of a path on this port."""
        return f"http://127.0.0.1:{self.port}/{path}"
