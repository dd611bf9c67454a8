"""Blocks of Volumes' files over HTTP: PUT /volumes/uploads/{id}/{file}/{block}, GET /volumes/downloads/{id}/{range}.

Ids are handed out by the control plane and can not be guessed.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from typing import TYPE_CHECKING

from aiohttp import web

from emulator.storage.transfers import BLOCK_BYTES
from emulator.storage.tree import write_at

if TYPE_CHECKING:
    from emulator.storage.transfers import Transfers, Upload

_PIECE = 1 << 20


class VolumePages:
    def __init__(self, transfers: Transfers) -> None:
        self._transfers = transfers

    def add_to(self, app: web.Application) -> None:
        app.router.add_put(r"/volumes/uploads/{upload}/{file:\d+}/{block:\d+}", self.put)
        app.router.add_get(r"/volumes/downloads/{download}/{start:\d+}-{end:\d+}", self.get)

    async def put(self, request: web.Request) -> web.Response:
        """One block. What is answered is what the client says in the end, to tell that it has brought the block."""
        upload = self._transfers.upload(request.match_info["upload"])
        file, block = int(request.match_info["file"]), int(request.match_info["block"])
        if upload is None or upload.done or file >= len(upload.files) or block >= len(upload.files[file].blocks):
            raise web.HTTPNotFound(text="no such block is to be uploaded")
        digest = hashlib.sha256()
        pieces, held, at = [], 0, block * BLOCK_BYTES
        # Not `iter_chunks`: on an empty body it spins for ever.
        async for chunk in request.content.iter_any():
            digest.update(chunk)
            pieces.append(chunk)
            held += len(chunk)
            if held >= _PIECE:
                at += await self._keep(upload, file, b"".join(pieces), at)
                pieces, held = [], 0
            if at + held > (block + 1) * BLOCK_BYTES:
                raise web.HTTPRequestEntityTooLarge(max_size=BLOCK_BYTES, actual_size=at + held)
        await self._keep(upload, file, b"".join(pieces), at)
        if digest.digest() != upload.files[file].blocks[block]:
            raise web.HTTPBadRequest(text="the block is not what was announced: its SHA-256 differs")
        upload.come.add((file, block))
        return web.Response(body=upload.upload_id.encode())

    async def _keep(self, upload: Upload, file: int, data: bytes, at: int) -> int:
        """Write a piece. A disk that is full is the upload's failure, which its end tells."""
        try:
            await asyncio.to_thread(_write, upload.path(file), data, at)
        except OSError as error:
            upload.failure = error
        return len(data)

    async def get(self, request: web.Request) -> web.StreamResponse:
        start, end = int(request.match_info["start"]), int(request.match_info["end"])
        kept = self._transfers.download(request.match_info["download"])
        if kept is None:
            raise web.HTTPNotFound(text="no such file is to be downloaded")
        response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
        response.content_length = end - start
        descriptor = os.open(kept, os.O_RDONLY | os.O_CLOEXEC)
        try:
            await response.prepare(request)
            while start < end:
                data = await asyncio.to_thread(os.pread, descriptor, min(_PIECE, end - start), start)
                if not data:
                    break
                await response.write(data)
                start += len(data)
        finally:
            os.close(descriptor)
        if start < end and request.transport is not None:
            request.transport.abort()  # the file has been cut off meanwhile
        return response


def _write(path: os.PathLike[str], data: bytes, at: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        write_at(descriptor, data, at)
    finally:
        os.close(descriptor)
