"""What both kinds of container runtime share: a container's folder, the start of its init, and the end of all."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Protocol

from emulator.containers.base import ContainerStartError
from emulator.containers.environment import container_environment
from emulator.containers.folder import RunFolder, below, place_files, remove
from emulator.containers.launch import MODAL_ENTRY, Launch
from emulator.containers.supervised import Ends, SupervisedContainer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from emulator.containers.base import Container, ContainerSpec, OnOutput


class Spawner(Protocol):
    """How an init process comes to be."""

    async def spawn(self, launch_file: Path, ends: Ends) -> None:
        """Start an init with `ends.given()` that reads `launch_file`. Raises `ContainerStartError`."""

    async def close(self) -> None:
        """Release everything. Containers are gone by then."""


class SupervisedRuntime:
    """A `ContainerRuntime` whose containers each have an init process, which `spawner` starts.

    `entry` is the function to run in containers, as `module:function`; `machine` the environment they inherit from.
    """

    def __init__(
        self,
        spawner: Spawner,
        *,
        folder: RunFolder | None = None,
        entry: str = MODAL_ENTRY,
        machine: Mapping[str, str] | None = None,
    ) -> None:
        self._spawner = spawner
        self._folder = folder
        self._entry = entry
        self._machine = machine
        self._containers: dict[str, SupervisedContainer] = {}

    async def start(self, spec: ContainerSpec, on_output: OnOutput) -> Container:
        if spec.task_id in self._containers:
            raise ContainerStartError(f"a container of task {spec.task_id} is running already")
        if self._folder is None:
            self._folder = RunFolder()
        folder = self._folder.path / spec.task_id
        try:
            launch_file = await asyncio.to_thread(self._prepare, spec, folder)
            return await self._launch(spec, folder, launch_file, on_output)
        except BaseException:
            await asyncio.to_thread(remove, folder)
            raise

    async def close(self) -> None:
        for container in (containers := list(self._containers.values())):
            container.kill()
        for container in containers:
            await container.wait()
        await self._spawner.close()
        if self._folder is not None:
            await asyncio.to_thread(self._folder.close)

    async def _launch(
        self, spec: ContainerSpec, folder: Path, launch_file: Path, on_output: OnOutput
    ) -> SupervisedContainer:
        ends = Ends()
        try:
            await self._spawner.spawn(launch_file, ends)
        except BaseException:
            ends.close()
            raise
        finally:
            ends.hand_over()

        async def release() -> None:
            self._containers.pop(spec.task_id, None)
            await asyncio.to_thread(remove, folder)

        container = SupervisedContainer(spec.task_id, ends, on_output, release)
        self._containers[spec.task_id] = container
        await container.started()
        return container

    def _prepare(self, spec: ContainerSpec, folder: Path) -> Path:
        """Make the folder that the container lives in, and the file that tells its init what to do."""
        root = folder / "root"
        for needed in (folder / "tmp", below(root, spec.workdir), root / "root"):
            needed.mkdir(parents=True, exist_ok=True)
        place_files(spec.files, root)
        arguments = folder / "arguments"
        arguments.write_bytes(spec.arguments)
        source = str(root / "root")
        workdir = str(below(root, spec.workdir))
        environment = container_environment(
            spec,
            os.environ if self._machine is None else self._machine,
            home=source,
            temporary=str(folder / "tmp"),
            control_socket=str(spec.control_socket),
            arguments=str(arguments),
            source_root=source,
            extra={},
        )
        path = list(dict.fromkeys([workdir, *environment["PYTHONPATH"].split(":")]))
        launch = Launch(spec.task_id, self._entry, environment, workdir, path)
        launch.write(folder / "launch.json")
        return folder / "launch.json"
