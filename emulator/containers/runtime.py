"""What both kinds of container runtime share: a container's folder, the start of its init, and the end of all."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from typing import TYPE_CHECKING, Protocol

from emulator.containers.base import ContainerStartError
from emulator.containers.channel import send_own_life
from emulator.containers.ends import Ends
from emulator.containers.folder import RunFolder, remove
from emulator.containers.forward import machines_proxy
from emulator.containers.isolation import Isolation, detect
from emulator.containers.launch import MODAL_ENTRY
from emulator.containers.links import VolumeLinks
from emulator.containers.prepare import prepare
from emulator.containers.rootplan import Survey, survey
from emulator.containers.supervised import SupervisedContainer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from emulator.containers.base import Container, ContainerSpec, OnOutput, OwnPython

_log = logging.getLogger("emulator.containers")


class Spawner(Protocol):
    """How an init process comes to be."""

    async def spawn(self, launch_file: Path, ends: Ends, isolation: Isolation, python: OwnPython | None, /) -> None:
        """Start an init with `ends.given()` that reads `launch_file`. Raises `ContainerStartError`."""

    def ended(self, python: OwnPython | None, /) -> None:
        """A container that it has started with that environment is gone, or never came to be."""

    async def warm(self, isolation: Isolation, /) -> object:
        """Do ahead what can be done ahead."""

    async def close(self) -> None:
        """Release everything. Containers are gone by then."""


class SupervisedRuntime:
    """A `ContainerRuntime` whose containers each have an init process, which `spawner` starts.

    `entry` is the function to run in containers, as `module:function`; `machine` the environment they inherit from;
    `isolation` what to make of namespaces (default: what the machine allows).
    """

    def __init__(
        self,
        spawner: Spawner,
        *,
        entry: str = MODAL_ENTRY,
        machine: Mapping[str, str] | None = None,
        isolation: Isolation | None = None,
    ) -> None:
        self._spawner = spawner
        self._folder: RunFolder | None = None
        self._entry = entry
        self._machine = machine
        self._given = isolation
        self._detection: asyncio.Task[Isolation] | None = None
        self._links = VolumeLinks(lambda path, target: self._run_folder().link(path, target))
        self._surveys: dict[OwnPython | None, Survey] = {}
        self._containers: dict[str, SupervisedContainer] = {}

    async def isolation(self) -> Isolation:
        """What containers have of their own on this machine: found once, by trying."""
        if self._given is not None:
            return self._given
        if self._detection is None:
            self._detection = asyncio.create_task(detect(self._run_folder().make("probe")))
        return await asyncio.shield(self._detection)

    async def start(self, spec: ContainerSpec, on_output: OnOutput) -> Container:
        if spec.task_id in self._containers:
            raise ContainerStartError(f"a container of task {spec.task_id} is running already")
        isolation = await self.isolation()
        if spec.bare and spec.changes is not None and not isolation.how:
            raise ContainerStartError(
                f"images' commands are not run here: they would change this machine's own files, since containers have "
                f"none of their own ({isolation.why or 'no namespaces'})"
            )
        private = spec.private_network and isolation.private_network
        if not private:
            self._refuse_open_network(spec, isolation)
            self._refuse_taken_ports(spec, isolation)
        folder = self._run_folder().path / spec.task_id
        try:
            launch_file = await asyncio.to_thread(self._prepare, spec, folder, isolation)
            return await self._launch(spec, folder, launch_file, on_output, isolation)
        except BaseException:
            await asyncio.to_thread(remove, folder)
            raise

    async def warm(self) -> None:
        """Do now what the first start would otherwise wait for."""
        await self._spawner.warm(await self.isolation())

    async def close(self) -> None:
        for container in (containers := list(self._containers.values())):
            container.kill()
        for container in containers:
            await container.wait()
        if self._detection is not None:
            await asyncio.wait([self._detection])
        await self._spawner.close()
        if self._folder is not None:
            await asyncio.to_thread(self._folder.close)

    def _refuse_open_network(self, spec: ContainerSpec, isolation: Isolation) -> None:
        if spec.block_network:
            raise ContainerStartError(
                f"`block_network` can not be kept on this machine: containers have no network of their own "
                f"({isolation.why or 'no namespaces'})"
            )

    def _refuse_taken_ports(self, spec: ContainerSpec, isolation: Isolation) -> None:
        """On one network, a port is one container's."""
        for container in self._containers.values():
            if taken := sorted(set(spec.fixed_ports) & container.fixed_ports):
                raise ContainerStartError(
                    f"port {taken[0]} is taken by container {container.task_id}: on this machine containers have no "
                    f"network of their own ({isolation.why}), so only one container at a time can listen on a fixed "
                    f"port. Set max_containers=1, and give every Server a port of its own"
                )

    def _run_folder(self) -> RunFolder:
        self._folder = self._folder or RunFolder()
        return self._folder

    @property
    def _environment(self) -> Mapping[str, str]:
        return os.environ if self._machine is None else self._machine

    def _prepare(self, spec: ContainerSpec, folder: Path, isolation: Isolation) -> Path:
        machine = self._environment
        if (seen := self._surveys.get(spec.python)) is None:
            seen = self._surveys[spec.python] = survey(machine, spec.python.shown if spec.python else ())
        return prepare(
            spec, folder, entry=self._entry, machine=machine, isolation=isolation, links=self._links, seen=seen
        )

    async def _launch(
        self, spec: ContainerSpec, folder: Path, launch_file: Path, on_output: OnOutput, isolation: Isolation
    ) -> SupervisedContainer:
        ends = Ends()
        try:
            await self._spawner.spawn(launch_file, ends, isolation, spec.python)
        except BaseException:
            ends.close()
            self._spawner.ended(spec.python)
            raise
        finally:
            ends.hand_over()
        send_own_life(ends.control)

        async def release() -> None:
            self._containers.pop(spec.task_id, None)
            self._spawner.ended(spec.python)
            await asyncio.to_thread(_put_away, folder, spec.changes)

        private = spec.private_network and isolation.private_network
        container = SupervisedContainer(
            spec.task_id,
            ends,
            on_output,
            release,
            private_network=private,
            fixed_ports=frozenset() if private else frozenset(spec.fixed_ports),
            upstream=machines_proxy(self._environment),
        )
        self._containers[spec.task_id] = container
        await container.started()
        if container.views.shared:
            _log.warning("containers share Volumes as they are: %s", container.views.shared)
        elif isolation.how:
            for view in spec.views.values():
                view.shown(container.views)
        return container


def _put_away(folder: Path, kept: Path | None) -> None:
    """Remove a container's folder, but for what is to be kept of it."""
    try:
        if kept is not None:
            remove(kept)
            kept.mkdir(parents=True)
            for name in ("root", "over", "launch.json"):
                if (folder / name).exists():
                    shutil.move(folder / name, kept / name)
    finally:
        remove(folder)
