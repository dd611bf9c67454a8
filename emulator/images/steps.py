"""Build steps that run in a container of the image built so far: `Image.run_function`'s function, and commands."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from typing import TYPE_CHECKING

from modal_proto import api_pb2

from emulator.containers.base import Command, ContainerStartError
from emulator.containers.ends import Output
from emulator.containers.folder import remove
from emulator.ids import new_id
from emulator.images.changes import take_changes
from emulator.images.environments import BuildFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from emulator.containers.base import ContainerRuntime, ContainerSpec
    from emulator.images.commands import Shell
    from emulator.launcher import ContainerLauncher
    from emulator.scheduler.calls import Calls
    from emulator.scheduler.scheduler import Scheduler
    from emulator.state import FunctionRecord, ImageRecord, State
    from emulator.storage.content import ContentStore

_WAITED = 3600.0
"""Seconds of one look for the output. The function has its own timeout, which the scheduler keeps."""


class BuildSteps:
    """`folder`: where containers leave what they have changed, in a folder of the function's or the container's id."""

    def __init__(
        self,
        state: State,
        scheduler: Scheduler,
        calls: Calls,
        content: ContentStore,
        launcher: ContainerLauncher,
        runtime: ContainerRuntime,
        folder: Path,
    ) -> None:
        self._state = state
        self._scheduler = scheduler
        self._calls = calls
        self._content = content
        self._launcher = launcher
        self._runtime = runtime
        self._folder = folder
        self._heard: dict[str, Callable[[str], None]] = {}

    def hear(self, function_id: str, text: str) -> bool:
        """Take what a container of that function writes, if it is one of these."""
        if (write := self._heard.get(function_id)) is not None:
            write(text)
        return write is not None

    async def run_function(
        self, image: ImageRecord, function_id: str, given: api_pb2.FunctionInput, write: Callable[[str], None]
    ) -> tuple[tuple[str, str, int], ...]:
        """Run a builder function once, in a container of `image`: the files that it leaves. Raises `BuildFailed`."""
        record = self._state.functions.get(function_id)
        if record is None or record.staged is None:
            raise BuildFailed(f"the build's function {function_id} is not known")
        record.definition, record.data = record.staged.definition, record.staged.data
        record.version += 1
        self._heard[function_id] = write
        try:
            self._scheduler.published(record)
            try:
                result = await self._result(record, given)
            finally:
                await self._scheduler.remove(record)  # its container leaves, and with that its files are there
            if result.status != api_pb2.GenericResult.GENERIC_STATUS_SUCCESS:
                why = result.exception or "the function was not run to its end"
                raise BuildFailed(why, told=why)
            placed = {path: sha256 for path, sha256, _ in image.copied}
            for mount_id in record.definition.mount_ids:
                placed |= {file.filename: file.sha256_hex for file in self._state.mounts[mount_id].files}
            return await asyncio.to_thread(take_changes, self._folder / function_id, self._content, placed=placed)
        finally:
            del self._heard[function_id]
            await asyncio.to_thread(remove, self._folder / function_id)

    async def run_shell(
        self,
        image: ImageRecord,
        layer: api_pb2.Image,
        shell: Shell,
        secrets: Mapping[str, str],
        write: Callable[[str], None],
    ) -> tuple[tuple[str, str, int], ...]:
        """Run a command in a container of `image`: the files that it leaves. Raises `BuildFailed`."""
        task_id = new_id("ta")
        # As it is seen from within: a step of an image that is whole so far.
        sofar = dataclasses.replace(image, workdir=shell.workdir, unfinished=False)
        spec = await self._launcher.step(sofar, layer, task_id, {**dict(shell.environment), **secrets})
        try:
            code = await self._shell_in(spec, shell, write)
            if code:
                raise BuildFailed(f"`{shell.command}` ended with status {code}")
            placed = {path: sha256 for path, sha256, _ in image.copied}
            return await asyncio.to_thread(take_changes, self._folder / task_id, self._content, placed=placed)
        except ContainerStartError as error:
            raise BuildFailed(str(error), told=str(error)) from error
        finally:
            await asyncio.to_thread(remove, self._folder / task_id)

    async def _shell_in(self, spec: ContainerSpec, shell: Shell, write: Callable[[str], None]) -> int:
        container = await self._runtime.start(spec, lambda *_: None)
        try:
            running = await container.execute(Command(words=["/bin/sh", "-c", shell.command], main=True))
            os.close(running.stdin)
            outputs = [Output(one, write) for one in (running.stdout, running.stderr) if one is not None]
            try:
                return (await running.wait()).code
            finally:
                for output in outputs:
                    output.close()
        finally:
            container.kill()
            await container.wait()  # by then its files are where they are wanted

    async def _result(self, record: FunctionRecord, given: api_pb2.FunctionInput) -> api_pb2.GenericResult:
        call = self._calls.create(record.function_id)
        payload = api_pb2.FunctionInput(data_format=api_pb2.DATA_FORMAT_PICKLE)
        payload.MergeFrom(given)
        self._scheduler.submit(call, payload, 0)
        wanted = api_pb2.FunctionGetOutputsRequest(timeout=_WAITED, max_values=1)
        try:
            while not (found := (await self._calls.outputs(call, wanted)).outputs):
                pass
        except asyncio.CancelledError:
            self._scheduler.cancel(call, terminate=True)
            raise
        self._calls.taken(call)
        return found[0].result
