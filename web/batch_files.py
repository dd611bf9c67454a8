"""What a batch leaves: its parts, put together to an output file and an error file."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from infra.aws import StateUnavailable
from web.batch_lines import unpacked
from web.files import BATCH_FILE_SECONDS, File, new_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from web.batch_lease import Lease
    from web.batches import Batch, Storage
    from web.clock import Clock
    from web.objects import Writer

log = logging.getLogger(__name__)

READ_AT_ONCE = 4
WHOLE = 1 << 31
"""More bytes than a part has."""
UPLOAD_SECONDS = 7200.0
"""After which a file that was begun, and never finished, is cleared away."""


def named(batch: Batch, now: float) -> Batch:
    """The batch, whose files have names now. They get them once, so that whoever writes them writes the same."""
    output = batch.output_file_id or (new_id("file-", now) if batch.completed else None)
    errors = batch.error_file_id or (new_id("file-", now) if batch.failed else None)
    return replace(batch, output_file_id=output, error_file_id=errors)


async def write_files(lease: Lease, storage: Storage, *, clock: Clock) -> None:
    """Both are there once this returns, however often it is tried. Raises what a Lease does, and ObjectMissing."""
    batch, now = lease.batch, clock.time()
    files = [
        file
        for file_id, kind in ((batch.output_file_id, "output"), (batch.error_file_id, "error"))
        if (file := _file(batch, file_id, kind, now)) is not None
    ]
    if files:
        await lease.insist(lambda: _write(lease, storage, files, until=now + UPLOAD_SECONDS))


async def _write(lease: Lease, storage: Storage, files: list[File], *, until: float) -> None:
    batch = lease.batch
    missing = []
    for file in files:
        kept = await storage.files.load(file.owner, file.id)
        if kept is None or kept.state == "uploading":
            await storage.files.begin(replace(file, state="uploading"), until=until)
            missing.append(file)
    writers: dict[str, Writer] = {file.id: storage.objects.writer(file.at) for file in missing}
    try:
        async for good, bad in _parts(storage, batch):
            for file_id, data in ((batch.output_file_id, good), (batch.error_file_id, bad)):
                if data and file_id in writers:
                    await writers[file_id].write(data)
        await lease.change(lambda one: one)  # nobody else has written them, and had them read and deleted, meanwhile
        for file in missing:
            writer = writers[file.id]
            size = writer.size
            await writer.close()
            await storage.files.finish(replace(file, size=size))
            del writers[file.id]
    finally:
        for writer in writers.values():
            try:
                await writer.abort()
            except StateUnavailable as error:
                log.warning("an upload of batch %s is left to the bucket's rules: %s", batch.id, error)


async def _parts(storage: Storage, batch: Batch) -> AsyncIterator[tuple[bytes, bytes]]:
    names = batch.parts_at()
    for begin in range(0, len(names), READ_AT_ONCE):
        some = names[begin : begin + READ_AT_ONCE]
        for part in await asyncio.gather(*(storage.objects.read(name, 0, WHOLE) for name in some)):
            yield unpacked(part)


def _file(batch: Batch, file_id: str | None, kind: str, now: float) -> File | None:
    if file_id is None:
        return None
    lasts = BATCH_FILE_SECONDS if batch.output_seconds is None else batch.output_seconds
    return File(
        owner=batch.owner, id=file_id, filename=f"{batch.id}_{kind}.jsonl", purpose="batch_output", size=0,
        created_at=now, expires_at=now + lasts, state="ready",
    )  # fmt: skip
