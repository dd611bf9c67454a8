"""Files that a deployer adds: small ones in the message, large ones as blobs."""

from __future__ import annotations

import asyncio
import hashlib
import os
from typing import TYPE_CHECKING

import pytest
from grpclib import Status
from modal_proto import api_pb2

from emulator.protocol.mounts import MountHandlers
from emulator.state import State
from emulator.storage.content import BlobStore, ContentStore
from tests.emulator.protocol_kit import refused, served

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from modal_proto.api_grpc import ModalClientStub

pytestmark = pytest.mark.timeout(20)

DATA = b"weights" * 1000
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def content(tmp_path: Path) -> ContentStore:
    return ContentStore(tmp_path / "content")


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


@pytest.fixture
async def server(content: ContentStore, blobs: BlobStore) -> AsyncIterator[ModalClientStub]:
    async with served(MountHandlers(State(), content, blobs)) as stub:
        yield stub


def uploaded(blobs: BlobStore, data: bytes) -> str:
    blob_id = blobs.new()
    blobs.path(blob_id).write_bytes(data)
    return blob_id


async def test_a_file_comes_in_the_message_or_as_a_blob_which_is_moved(
    server: ModalClientStub, content: ContentStore, blobs: BlobStore
) -> None:
    small = hashlib.sha256(b"small").hexdigest()
    put = api_pb2.MountPutFileRequest(sha256_hex=small, data=b"small")
    assert (await server.MountPutFile(put)).exists
    assert content.path(small).read_bytes() == b"small"

    blob_id = uploaded(blobs, DATA)
    put = api_pb2.MountPutFileRequest(sha256_hex=SHA256, data_blob_id=blob_id)
    assert (await server.MountPutFile(put)).exists
    assert content.path(SHA256).read_bytes() == DATA
    assert not blobs.has(blob_id)
    assert (await server.MountPutFile(put)).exists  # a client repeats what it saw no answer to


async def test_what_is_not_as_announced_is_refused_and_not_kept(
    server: ModalClientStub, content: ContentStore, blobs: BlobStore
) -> None:
    blob_id = uploaded(blobs, b"something else")
    put = api_pb2.MountPutFileRequest(sha256_hex=SHA256, data_blob_id=blob_id)
    assert "not uploaded as announced" in await refused(server.MountPutFile(put), Status.INVALID_ARGUMENT)
    assert not content.has(SHA256)
    assert not blobs.has(blob_id)
    await refused(server.MountPutFile(put), Status.INVALID_ARGUMENT)
    inline = api_pb2.MountPutFileRequest(sha256_hex=SHA256, data=b"something else")
    await refused(server.MountPutFile(inline), Status.INVALID_ARGUMENT)


async def test_others_are_answered_while_a_file_is_read(server: ModalClientStub, blobs: BlobStore) -> None:
    blob_id = blobs.new()
    os.mkfifo(blobs.path(blob_id))  # reading it waits for whoever writes
    put = api_pb2.MountPutFileRequest(sha256_hex=SHA256, data_blob_id=blob_id)
    putting = asyncio.create_task(server.MountPutFile(put))
    asked = api_pb2.MountBatchedCheckExistenceRequest(sha256_hex_hashes=[SHA256])
    for _ in range(3):
        assert (await server.MountBatchedCheckExistence(asked)).missing_sha256_hex_hashes == [SHA256]
    assert not putting.done()
    await asyncio.to_thread(blobs.path(blob_id).write_bytes, DATA)
    assert (await putting).exists
