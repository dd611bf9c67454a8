"""What containers see of Volumes: a directory that they share, so that commit and reload have nothing to move."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.empty_pb2 import Empty
from modal_proto import api_pb2

from emulator.protocol.dispatch import not_found

if TYPE_CHECKING:
    from emulator.protocol.dispatch import Caller
    from emulator.state import State


class VolumeViewHandlers:
    def __init__(self, state: State) -> None:
        self._state = state

    async def VolumeCommit(self, request: api_pb2.VolumeCommitRequest, _: Caller) -> api_pb2.VolumeCommitResponse:
        self._check(request.volume_id)
        return api_pb2.VolumeCommitResponse(skip_reload=True)

    async def VolumeReload(self, request: api_pb2.VolumeReloadRequest, _: Caller) -> Empty:
        self._check(request.volume_id)
        return Empty()

    def _check(self, volume_id: str) -> None:
        if volume_id not in self._state.volumes:
            raise not_found(f"No Volume with ID {volume_id}")
