"""Large inputs, outputs and files on their way: over HTTP, for as long as somebody may ask for them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING

import aiohttp
import pytest

from emulator.clock import RealClock
from emulator.protocol.blob_http import BlobServer
from emulator.storage.content import BlobStore
from emulator.storage.transfers import Transfers
from tests.emulator.cli_kit import ROOT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

KILLED = """
import os, sys
from pathlib import Path
from emulator.storage.content import BlobStore
blobs = BlobStore(Path(sys.argv[1]))
blobs.path(blobs.new()).write_bytes(b"left behind")
os._exit(9)
"""


def files(folder: Path) -> list[bytes]:
    """What is in the blobs' files now, those of uploads that go on included."""
    return sorted(path.read_bytes() for path in folder.glob("*/*") if path.name != "lock")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path)


@pytest.fixture
async def server(blobs: BlobStore, tmp_path: Path) -> AsyncIterator[BlobServer]:
    server = BlobServer(blobs, Transfers(tmp_path, RealClock().monotonic))
    await server.start()
    yield server
    await server.close()


async def test_a_blob_is_put_and_got_under_an_id_that_was_issued_and_no_other(
    server: BlobServer, blobs: BlobStore, tmp_path: Path
) -> None:
    url = server.url(blobs.new())
    async with aiohttp.ClientSession() as session:
        for expected, data in ((404, None), (200, b"large")):
            if data is not None:
                assert (await session.put(url, data=data)).status == 200
            assert (await session.get(url)).status == expected
        for other in (server.url("bl-0000000000000000000000"), server.url("..%2fx"), server.url("lock")):
            assert (await session.put(other, data=b"x")).status == 404
            assert (await session.get(other)).status == 404
    assert files(tmp_path) == [b"large"]


async def test_an_upload_whose_client_leaves_leaves_nothing(
    server: BlobServer, blobs: BlobStore, tmp_path: Path
) -> None:
    path = server.url(blobs.new()).partition(str(server.port))[2]
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(f"PUT {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 20000\r\n\r\n".encode() + b"a" * 9000)
    await until(lambda: files(tmp_path) != [])
    writer.close()
    await until(lambda: files(tmp_path) == [])


async def test_a_discarded_blob_is_gone_and_can_not_be_put_again(
    server: BlobServer, blobs: BlobStore, tmp_path: Path
) -> None:
    blob_id = blobs.new()
    async with aiohttp.ClientSession() as session:
        assert (await session.put(server.url(blob_id), data=b"large")).status == 200
        blobs.discard(blob_id)
        blobs.discard(blob_id)
        assert (await session.get(server.url(blob_id))).status == 404
        assert (await session.put(server.url(blob_id), data=b"large")).status == 404
    assert files(tmp_path) == []


def test_blobs_go_with_their_emulator_and_those_of_a_killed_one_with_the_next(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT, check=False)
    assert files(tmp_path) == [b"left behind"]
    first, second = BlobStore(tmp_path), BlobStore(tmp_path)
    assert files(tmp_path) == []
    kept = second.new()
    for blobs, blob_id in ((first, first.new()), (second, kept)):
        blobs.path(blob_id).write_bytes(b"large")
    first.close()
    assert files(tmp_path) == [b"large"]
    assert second.read(kept) == b"large"
