"""Containers as threads of this process. See the package's docstring for how, and docs/emulator.md for what differs."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from emulator.clock import RealClock
from emulator.containers.base import ContainerStartError
from emulator.containers.compat import thread as client
from emulator.containers.environment import container_environment
from emulator.containers.folder import RunFolder, below, place_file, remove
from emulator.containers.links import VolumeLinks
from emulator.containers.prepare import SOURCE_ROOT
from emulator.containers.rootplan import is_below
from emulator.containers.thread import modules
from emulator.containers.thread.container import INSTEAD, ThreadContainer
from emulator.containers.thread.installation import INSTALLATION

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from emulator.clock import Clock
    from emulator.containers.base import Container, ContainerSpec, OnOutput

_log = logging.getLogger("emulator.containers")


_OF_BUILDS = ("/.uv", "/.requirements.txt", "/tmp/poetry")  # noqa: S108 - read nowhere
"""Where the client copies the lists of packages that an image's build installs (`modal.Image.uv_pip_install` and its
like): no code of a container asks for them."""


class ThreadRuntime:
    """A `ContainerRuntime` of threads. `machine` is the environment that containers inherit from."""

    def __init__(self, *, clock: Clock | None = None, machine: Mapping[str, str] | None = None) -> None:
        self._clock = clock or RealClock()
        self._machine = dict(os.environ if machine is None else machine)
        self._folder: RunFolder | None = None
        self._containers: dict[str, ThreadContainer] = {}
        self._ports: dict[str, frozenset[int]] = {}
        """Those that each container may bind, from before it is there."""
        self._links = VolumeLinks(lambda path, target: self._run_folder().link(path, target))

    def loops(self) -> Sequence[asyncio.AbstractEventLoop]:
        """Where its containers' requests to the emulator run."""
        return client.loops() if self._containers else ()

    async def open(self) -> None:
        """Put in place what this process has to have before a test uses the client."""
        await asyncio.to_thread(INSTALLATION.enter, self)

    async def start(self, spec: ContainerSpec, on_output: OnOutput) -> Container:
        if spec.task_id in self._containers:
            raise ContainerStartError(f"a container of task {spec.task_id} is running already")
        self._refuse(spec)
        self._ports[spec.task_id] = frozenset(spec.fixed_ports)
        home: Path | None = None

        async def release() -> None:
            self._containers.pop(spec.task_id, None)
            self._ports.pop(spec.task_id, None)
            if home is not None:
                await asyncio.to_thread(remove, home)

        try:
            await self.open()
            home = self._run_folder().make(spec.task_id)
            own, environment = await asyncio.to_thread(self._prepare, spec, home)
        except BaseException:
            await release()
            raise

        container = ThreadContainer(spec, environment, clock=self._clock, on_output=on_output, release=release)
        if own is not None:
            container.identity.own[modules.OWN] = own
        self._containers[spec.task_id] = container
        container.start()
        return container

    async def close(self) -> None:
        for container in (containers := list(self._containers.values())):
            container.kill()
        for container in containers:
            await container.wait()
        await asyncio.to_thread(self._release)

    def _release(self) -> None:
        INSTALLATION.leave(self)
        if self._folder is not None:
            inside = str(self._folder.path)
            for path in [path for path in sys.path_importer_cache if path.startswith(inside)]:
                sys.path_importer_cache.pop(path, None)
            self._folder.close()
            self._folder = None

    def _run_folder(self) -> RunFolder:
        self._folder = self._folder or RunFolder()
        return self._folder

    def _refuse(self, spec: ContainerSpec) -> None:
        """What a thread can not give."""
        if spec.bare:
            raise ContainerStartError(f"a container that is a thread can not be bare, as a Sandbox is: {INSTEAD}")
        if spec.python is not None:
            raise ContainerStartError(
                f"its image needs packages, or a Python, that this process does not have, and a container that is a "
                f"thread has this process's: {INSTEAD}"
            )
        if spec.changes is not None:
            raise ContainerStartError(f"what a thread changes in files can not be an image's: {INSTEAD}")
        if spec.block_network:
            raise ContainerStartError(f"`block_network` can not be kept in a container that is a thread: {INSTEAD}")
        for task_id, ports in self._ports.items():
            if taken := sorted(ports.intersection(spec.fixed_ports)):
                raise ContainerStartError(
                    f"port {taken[0]} is taken by container {task_id}: containers that are threads have no "
                    f"network of their own, so only one at a time can listen on a fixed port. Set max_containers=1, "
                    f"and give every Server a port of its own, or {INSTEAD}"
                )

    def _refuse_files(self, spec: ContainerSpec, roots: Sequence[str]) -> None:
        """What was added below the folders of source can be imported; other files are nowhere."""
        for file in spec.files:
            if not any(is_below(file.path, root.rstrip("/")) for root in (*roots, *_OF_BUILDS)):
                raise ContainerStartError(
                    f"{file.path} was added to the image, and a container that is a thread has no file system of its "
                    f"own in which to show it: {INSTEAD}"
                )

    def _prepare(self, spec: ContainerSpec, home: Path) -> tuple[modules.OwnModules | None, dict[str, str]]:
        for path, volume in spec.volumes.items():
            try:
                self._links.need(Path(path), volume)
            except ContainerStartError as error:
                raise ContainerStartError(f"{error}, or {INSTEAD}") from error
            if path in spec.read_only:
                _log.warning("the volume at %s is read-only on Modal; here containers could write to it", path)
        inherited = spec.environment.get("PYTHONPATH", "").split(":")
        roots = list(dict.fromkeys(root for root in (spec.workdir, *inherited, SOURCE_ROOT) if root))
        self._refuse_files(spec, roots)
        sources = {file.path: file.source for file in spec.files}
        names = _own_names(client.module_of(spec.arguments), sources, roots)
        own: modules.OwnModules | None = None
        importable = sys.path
        if names:
            placed = self._place(spec)
            importable = [str(below(placed, root)) for root in roots]
            own = modules.OwnModules(names, importable, modules.process_modules())
        environment = container_environment(
            spec,
            self._machine,
            home=str(home),
            temporary=self._machine.get("TMPDIR"),
            control_socket=str(spec.control_socket),
            arguments="",
            source_root=SOURCE_ROOT,
            private_network=False,
        )
        del environment["MODAL_CONTAINER_ARGUMENTS_PATH"]
        environment["PYTHONPATH"] = ":".join(entry for entry in importable if entry)
        return own, environment

    def _place(self, spec: ContainerSpec) -> Path:
        """A folder with the files that were added, shared by all containers that have the same."""
        listed = sorted(f"{file.path} {file.source} {file.mode}" for file in spec.files)
        name = "files-" + hashlib.sha256("\n".join(listed).encode()).hexdigest()[:16]
        folder = self._run_folder().path / name
        if not folder.exists():
            making = self._run_folder().make(f"{name}-{spec.task_id}")
            for file in spec.files:
                place_file(file, below(making, file.path))
            try:
                making.rename(folder)
            except OSError:  # another start was faster
                remove(making)
        return folder


def _own_names(module: str, sources: Mapping[str, Path], roots: list[str]) -> frozenset[str]:
    """Which modules a container is to have for itself: all that were added, unless its function's is the process's.

    Then those alone that the process does not have at all.
    """
    names = modules.own_names(sources, roots)
    if module and not modules.is_processes(module, modules.added_source(module, sources, roots)):
        return names
    return frozenset(name for name in names if name not in modules.process_modules() and find_spec(name) is None)
