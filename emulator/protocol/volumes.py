"""Volumes: a directory each, which containers see directly, so that commit and reload have nothing to move."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from google.protobuf.empty_pb2 import Empty
from modal_proto import api_pb2

from emulator.ids import new_id
from emulator.protocol.dispatch import exists, not_found
from emulator.protocol.secrets import ANONYMOUS
from emulator.state import DEFAULT_ENVIRONMENT, Volume

if TYPE_CHECKING:
    from pathlib import Path

    from emulator.clock import Clock
    from emulator.protocol.dispatch import Caller
    from emulator.state import State


class VolumeHandlers:
    def __init__(self, state: State, clock: Clock, folder: Path) -> None:
        self._volumes = state.volumes
        self._clock = clock
        self._folder = folder

    async def VolumeGetOrCreate(
        self, request: api_pb2.VolumeGetOrCreateRequest, _: Caller
    ) -> api_pb2.VolumeGetOrCreateResponse:
        kind = request.object_creation_type
        environment = request.environment_name or DEFAULT_ENVIRONMENT
        found = None if kind in ANONYMOUS else self._named(request.deployment_name, environment)
        if found is None:
            if kind == api_pb2.OBJECT_CREATION_TYPE_UNSPECIFIED:
                raise not_found(f"Volume '{request.deployment_name}' not found in environment '{environment}'")
            found = self._create(request, environment)
        elif kind == api_pb2.OBJECT_CREATION_TYPE_CREATE_FAIL_IF_EXISTS:
            raise exists(f"Volume '{request.deployment_name}' already exists in environment '{environment}'")
        return api_pb2.VolumeGetOrCreateResponse(
            volume_id=found.volume_id, version=found.version, metadata=volume_metadata(found)
        )

    def _named(self, name: str, environment: str) -> Volume | None:
        return next(
            (v for v in self._volumes.values() if v.name and (v.name, v.environment) == (name, environment)), None
        )

    def _create(self, request: api_pb2.VolumeGetOrCreateRequest, environment: str) -> Volume:
        volume_id = new_id("vo")
        # A named volume is found again by its name when the state directory is used once more.
        name = "" if request.object_creation_type in ANONYMOUS else request.deployment_name
        path = self._folder / (f"{environment}.{name}" if name else volume_id)
        path.mkdir(parents=True, exist_ok=True)
        version = request.version or api_pb2.VOLUME_FS_VERSION_V2
        volume = Volume(volume_id, name, environment, path, version, self._clock.time())
        self._volumes[volume_id] = volume
        return volume

    async def VolumeGetById(self, request: api_pb2.VolumeGetByIdRequest, _: Caller) -> api_pb2.VolumeGetByIdResponse:
        volume = self._get(request.volume_id)
        return api_pb2.VolumeGetByIdResponse(volume_id=volume.volume_id, metadata=volume_metadata(volume))

    async def VolumeList(self, request: api_pb2.VolumeListRequest, _: Caller) -> api_pb2.VolumeListResponse:
        environment = request.environment_name or DEFAULT_ENVIRONMENT
        named = [v for v in self._volumes.values() if v.name and v.environment == environment]
        if before := request.pagination.created_before:
            named = [v for v in named if v.created_at < before]
        named.sort(key=lambda v: v.created_at, reverse=True)
        if limit := request.pagination.max_objects:
            named = named[:limit]
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
        self._get(request.volume_id)
        return api_pb2.VolumeCommitResponse(skip_reload=True)

    async def VolumeReload(self, request: api_pb2.VolumeReloadRequest, _: Caller) -> Empty:
        self._get(request.volume_id)
        return Empty()

    async def VolumeHeartbeat(self, request: api_pb2.VolumeHeartbeatRequest, _: Caller) -> Empty:
        self._get(request.volume_id)
        return Empty()

    async def VolumeDelete(self, request: api_pb2.VolumeDeleteRequest, _: Caller) -> Empty:
        volume = self._get(request.volume_id)
        del self._volumes[volume.volume_id]
        shutil.rmtree(volume.path, ignore_errors=True)
        return Empty()

    def _get(self, volume_id: str) -> Volume:
        if volume_id not in self._volumes:
            raise not_found(f"No Volume with ID {volume_id}")
        return self._volumes[volume_id]


def volume_metadata(volume: Volume) -> api_pb2.VolumeMetadata:
    return api_pb2.VolumeMetadata(
        version=volume.version,
        name=volume.name,
        creation_info=api_pb2.CreationInfo(created_at=volume.created_at),
    )
