"""Mounts: the files that a deployer adds, by content."""

from __future__ import annotations

import asyncio
import hashlib
import re
from typing import TYPE_CHECKING

from modal_proto import api_pb2

from emulator.ids import derived_id
from emulator.protocol.dispatch import invalid, not_found
from emulator.protocol.schema import has_field
from emulator.state import MountRecord

if TYPE_CHECKING:
    from emulator.protocol.dispatch import Caller
    from emulator.state import State
    from emulator.storage.content import BlobStore, ContentStore

_PYTHON_BUILD = re.compile(r"python-build-standalone\.\d+\.(3\.\d+)")


class MountHandlers:
    def __init__(self, state: State, content: ContentStore, blobs: BlobStore) -> None:
        self._state = state
        self._content = content
        self._blobs = blobs

    async def MountBatchedCheckExistence(
        self, request: api_pb2.MountBatchedCheckExistenceRequest, _: Caller
    ) -> api_pb2.MountBatchedCheckExistenceResponse:
        response = api_pb2.MountBatchedCheckExistenceResponse(
            missing_sha256_hex_hashes=[name for name in request.sha256_hex_hashes if not self._has(name)]
        )
        _stamp(response)
        return response

    async def MountPutFile(self, request: api_pb2.MountPutFileRequest, _: Caller) -> api_pb2.MountPutFileResponse:
        if request.WhichOneof("data_oneof") is not None and not self._has(request.sha256_hex):
            try:
                # Gigabytes are hashed here, or wait for a slow disk: not on the loop that everybody else waits for.
                await asyncio.to_thread(self._store, request)
            except (ValueError, FileNotFoundError) as error:
                raise invalid(f"The file was not uploaded as announced: {error}") from error
        response = api_pb2.MountPutFileResponse(exists=self._has(request.sha256_hex))
        _stamp(response)
        return response

    def _store(self, request: api_pb2.MountPutFileRequest) -> None:
        if request.WhichOneof("data_oneof") == "data":
            self._content.add(request.sha256_hex, request.data)
            return
        try:
            self._content.adopt(request.sha256_hex, self._blobs.path(request.data_blob_id))
        except (ValueError, FileNotFoundError):
            if not self._content.has(request.sha256_hex):  # the same request, repeated meanwhile, may have moved it
                raise
        finally:
            self._blobs.discard(request.data_blob_id)

    def _has(self, sha256: str) -> bool:
        try:
            return self._content.has(sha256)
        except ValueError as error:
            raise invalid(str(error)) from error

    async def MountGetOrCreate(
        self, request: api_pb2.MountGetOrCreateRequest, _: Caller
    ) -> api_pb2.MountGetOrCreateResponse:
        if request.namespace == api_pb2.DEPLOYMENT_NAMESPACE_GLOBAL:
            # The client's own package and its Python builds: containers run in this very installation, which has them.
            python = _PYTHON_BUILD.match(request.deployment_name)
            mount_id = derived_id("mo", request.deployment_name.encode())
            return self._respond(MountRecord(mount_id, (), python=python[1] if python else ""))
        if not request.files and request.object_creation_type == api_pb2.OBJECT_CREATION_TYPE_UNSPECIFIED:
            raise not_found(f"Mount '{request.deployment_name}' not found")
        for file in request.files:
            if not self._has(file.sha256_hex):
                raise invalid(f"{file.filename} was never uploaded")
        files = tuple(sorted(request.files, key=lambda file: file.filename))
        listing = b"\n".join(file.SerializeToString(deterministic=True) for file in files)
        checksum = hashlib.sha256(listing).hexdigest()
        return self._respond(MountRecord(derived_id("mo", listing), files, checksum))

    def _respond(self, mount: MountRecord) -> api_pb2.MountGetOrCreateResponse:
        self._state.mounts[mount.mount_id] = mount
        return api_pb2.MountGetOrCreateResponse(
            mount_id=mount.mount_id,
            handle_metadata=api_pb2.MountHandleMetadata(content_checksum_sha256_hex=mount.checksum),
        )


def _stamp(response: api_pb2.MountBatchedCheckExistenceResponse | api_pb2.MountPutFileResponse) -> None:
    """Say when the files were looked for. Clients before 1.6 do not know."""
    if has_field(response, "checked_at"):
        response.checked_at.GetCurrentTime()
