"""Commit and reload: what containers have changed of a Volume, and what they see of it (see `storage.views`)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from google.protobuf.empty_pb2 import Empty
from modal_proto import api_pb2

from emulator.containers.base import OpenFilesError
from emulator.protocol.dispatch import failed_precondition, not_found

if TYPE_CHECKING:
    from emulator.protocol.dispatch import Caller
    from emulator.state import State
    from emulator.storage.views import View, Views


class VolumeViewHandlers:
    def __init__(self, state: State, views: Views) -> None:
        self._state = state
        self._views = views

    async def VolumeCommit(self, request: api_pb2.VolumeCommitRequest, caller: Caller) -> api_pb2.VolumeCommitResponse:
        await asyncio.to_thread(self._view(request.volume_id, caller, "commit").commit)
        return api_pb2.VolumeCommitResponse(skip_reload=True)

    async def VolumeReload(self, request: api_pb2.VolumeReloadRequest, caller: Caller) -> Empty:
        view = self._view(request.volume_id, caller, "reload")
        try:
            await view.reload()
        except OpenFilesError as error:
            raise failed_precondition(str(error)) from error
        return Empty()

    def _view(self, volume_id: str, caller: Caller, what: str) -> View:
        if volume_id not in self._state.volumes:
            raise not_found(f"No Volume with ID {volume_id}")
        if (view := self._views.get(caller.task_id, volume_id)) is None:
            raise failed_precondition(f"{what}() is for containers that the Volume is mounted in")
        return view
