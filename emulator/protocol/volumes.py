"""Volumes: a directory each, which containers see directly, so that commit and reload have nothing to move."""

from __future__ import annotations

import asyncio
import shutil
from functools import partial
from typing import TYPE_CHECKING

from google.protobuf.empty_pb2 import Empty
from modal_proto import api_pb2

from emulator.protocol.named import NamedObjects
from emulator.state import Volume
from emulator.storage.private import private

if TYPE_CHECKING:
    from pathlib import Path

    from emulator.clock import Clock
    from emulator.protocol.dispatch import Caller
    from emulator.state import State


class VolumeHandlers:
    """`folder`: for named volumes, found there again by a later emulator. `temporary`: for anonymous ones."""

    def __init__(self, state: State, clock: Clock, folder: Path, *, temporary: Path) -> None:
        self._volumes = NamedObjects("Volume", "vo", state.volumes, state)
        self._clock = clock
        self._folder = folder
        self._temporary = temporary

    async def VolumeGetOrCreate(
        self, request: api_pb2.VolumeGetOrCreateRequest, _: Caller
    ) -> api_pb2.VolumeGetOrCreateResponse:
        found = self._volumes.get_or_create(request, partial(self._make, request))
        return api_pb2.VolumeGetOrCreateResponse(
            volume_id=found.volume_id, version=found.version, metadata=volume_metadata(found)
        )

    def _make(self, request: api_pb2.VolumeGetOrCreateRequest, volume_id: str, name: str, environment: str) -> Volume:
        path = private(self._folder) / environment / name if name else self._temporary / volume_id
        path.mkdir(parents=True, exist_ok=True)
        version = request.version or api_pb2.VOLUME_FS_VERSION_V2
        return Volume(volume_id, name, environment, path, version, self._clock.time())

    async def VolumeGetById(self, request: api_pb2.VolumeGetByIdRequest, _: Caller) -> api_pb2.VolumeGetByIdResponse:
        volume = self._volumes.get(request.volume_id)
        return api_pb2.VolumeGetByIdResponse(volume_id=volume.volume_id, metadata=volume_metadata(volume))

    async def VolumeList(self, request: api_pb2.VolumeListRequest, _: Caller) -> api_pb2.VolumeListResponse:
        environment, named = self._volumes.listed(request.environment_name, request.pagination)
        return api_pb2.VolumeListResponse(
            environment_name=environment,
            items=[
                api_pb2.VolumeListItem(
                    label=v.name, volume_id=v.volume_id, created_at=v.created_at, metadata=volume_metadata(v)
                )
                for v in named
            ],
        )

    async def VolumeCommit(self, request: api_pb2.VolumeCommitRequest, _: Caller) -> api_pb2.VolumeCommitResponse:
        self._volumes.get(request.volume_id)
        return api_pb2.VolumeCommitResponse(skip_reload=True)

    async def VolumeReload(self, request: api_pb2.VolumeReloadRequest, _: Caller) -> Empty:
        self._volumes.get(request.volume_id)
        return Empty()

    async def VolumeHeartbeat(self, request: api_pb2.VolumeHeartbeatRequest, _: Caller) -> Empty:
        self._volumes.get(request.volume_id)
        return Empty()

    async def VolumeDelete(self, request: api_pb2.VolumeDeleteRequest, _: Caller) -> Empty:
        volume = self._volumes.remove(request.volume_id)
        await asyncio.to_thread(shutil.rmtree, volume.path, ignore_errors=True)
        return Empty()


def volume_metadata(volume: Volume) -> api_pb2.VolumeMetadata:
    return api_pb2.VolumeMetadata(
        version=volume.version,
        name=volume.name,
        creation_info=api_pb2.CreationInfo(created_at=volume.created_at),
    )
