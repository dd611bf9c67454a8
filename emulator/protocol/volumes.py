"""Volumes by name and id: made, found, listed, renamed, deleted. What is in them: `volume_files`."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from google.protobuf.empty_pb2 import Empty
from modal_proto import api_pb2

from emulator.protocol.dispatch import exists, invalid
from emulator.protocol.heartbeats import Heartbeats
from emulator.protocol.named import NamedObjects, check_name
from emulator.state import WORKSPACE, Volume
from emulator.storage.private import private

if TYPE_CHECKING:
    from pathlib import Path

    from emulator.clock import Clock
    from emulator.protocol.dispatch import Caller
    from emulator.state import State
    from emulator.storage.volume_store import VolumeStore


class VolumeHandlers:
    """`folder`: for named Volumes, which outlive the emulator. Others are in the store's scratch folder."""

    def __init__(self, state: State, clock: Clock, store: VolumeStore, folder: Path) -> None:
        self.objects = NamedObjects(
            "Volume", "vo", state.volumes, state, heartbeats=Heartbeats(clock), ended=self._ended
        )
        self._state = state
        self._clock = clock
        self._store = store
        self._folder = folder
        self._removals: set[asyncio.Future[None]] = set()

    async def VolumeGetOrCreate(
        self, request: api_pb2.VolumeGetOrCreateRequest, _: Caller
    ) -> api_pb2.VolumeGetOrCreateResponse:
        found = self.objects.get_or_create(request, partial(self._make, request))
        return api_pb2.VolumeGetOrCreateResponse(
            volume_id=found.volume_id, version=found.version, metadata=volume_metadata(found)
        )

    def _make(self, request: api_pb2.VolumeGetOrCreateRequest, volume_id: str, name: str, environment: str) -> Volume:
        path = private(self._folder) / volume_id if name else self._store.scratch / volume_id
        self._store.of(volume_id, path)
        version = request.version or api_pb2.VOLUME_FS_VERSION_V1
        return Volume(volume_id, name, environment, path, version, self._clock.time())

    async def VolumeGetById(self, request: api_pb2.VolumeGetByIdRequest, _: Caller) -> api_pb2.VolumeGetByIdResponse:
        volume = self.objects.get(request.volume_id)
        return api_pb2.VolumeGetByIdResponse(volume_id=volume.volume_id, metadata=volume_metadata(volume))

    async def VolumeList(self, request: api_pb2.VolumeListRequest, _: Caller) -> api_pb2.VolumeListResponse:
        environment, named = self.objects.listed(request.environment_name, request.pagination)
        return api_pb2.VolumeListResponse(
            environment_name=environment,
            items=[
                api_pb2.VolumeListItem(
                    label=v.name, volume_id=v.volume_id, created_at=v.created_at, metadata=volume_metadata(v)
                )
                for v in named
            ],
        )

    async def VolumeRename(self, request: api_pb2.VolumeRenameRequest, _: Caller) -> Empty:
        volume = self.objects.get(request.volume_id)
        check_name("Volume", request.name)
        if not volume.name:
            raise invalid("An ephemeral Volume has no name, and can not be given one")
        taken = ((v.name, v.environment) for v in self._state.volumes.values() if v is not volume)
        if (request.name, volume.environment) in taken:
            raise exists(f"Volume '{request.name}' already exists in environment '{volume.environment}'")
        volume.name = request.name
        return Empty()

    async def VolumeHeartbeat(self, request: api_pb2.VolumeHeartbeatRequest, _: Caller) -> Empty:
        self.objects.beat(request.volume_id)
        return Empty()

    async def VolumeDelete(self, request: api_pb2.VolumeDeleteRequest, _: Caller) -> Empty:
        self.objects.remove(request.volume_id)
        await asyncio.gather(*self._removals)
        return Empty()

    def _ended(self, volume: Volume) -> None:
        """Its files go too, which may take a while."""
        removal = asyncio.ensure_future(asyncio.to_thread(self._store.delete, volume.volume_id, volume.path))
        self._removals.add(removal)
        removal.add_done_callback(self._removals.discard)


def volume_metadata(volume: Volume) -> api_pb2.VolumeMetadata:
    return api_pb2.VolumeMetadata(
        version=volume.version,
        name=volume.name,
        creation_info=api_pb2.CreationInfo(created_at=volume.created_at, created_by=WORKSPACE),
    )
