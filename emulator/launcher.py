"""From a published function to a container about to start: its control socket, files, variables and arguments."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from modal_proto import api_pb2

from emulator.containers.base import ContainerSpec, ContainerStartError, MountedFile
from emulator.images.environments import BuildFailed
from emulator.protocol.definition import blocks_network
from emulator.protocol.dispatch import Caller
from emulator.protocol.grpc import GrpcServer
from emulator.protocol.metadata import app_layout
from emulator.sandboxes.definition import DEFAULT_COMMAND
from emulator.sandboxes.definition import blocks_network as sandbox_blocks_network
from emulator.state import ImageRecord
from emulator.storage.tree import PathError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from emulator.clock import Clock
    from emulator.containers.base import OwnPython
    from emulator.protocol.dispatch import Dispatcher
    from emulator.protocol.grpc import Traffic
    from emulator.sandboxes.sandbox import Sandbox
    from emulator.state import FunctionRecord, State
    from emulator.storage.content import ContentStore
    from emulator.storage.views import View, Views
    from emulator.storage.volume_store import VolumeStore

    Definition = api_pb2.Function | api_pb2.Sandbox

BARE_IMAGE = ImageRecord("im-none", {}, "/root")


class ContainerLauncher:
    """Implements the scheduler's `Launcher`. `connect` gives it the dispatcher, which needs the scheduler first."""

    def __init__(
        self,
        *,
        state: State,
        clock: Clock,
        content: ContentStore,
        volumes: VolumeStore,
        views: Views,
        sockets: Path,
        environment: Callable[[], Mapping[str, str]],
        shared_ports: Callable[[], tuple[int, ...]],
        python_of: Callable[[ImageRecord], Awaitable[OwnPython | None]],
        changes: Path,
        server_url: str,
        traffic: Traffic | None = None,
    ) -> None:
        """`shared_ports` are this machine's that containers reach; the first is the blobs', which all of them need.

        `python_of` gives the environment of an image's own, or raises `BuildFailed`. In `changes` builder functions
        leave their files, by their id. `server_url` is the control plane's for clients: a Sandbox is one, if it is
        given a token.
        """
        self._state = state
        self._clock = clock
        self._content = content
        self._volume_store = volumes
        self._views = views
        self._sockets = sockets
        self._environment = environment
        self._shared_ports = shared_ports
        self._python_of = python_of
        self._server_url = server_url
        self._traffic = traffic
        self._changes = changes
        self._servers: dict[str, GrpcServer] = {}
        self._dispatcher: Dispatcher | None = None

    def connect(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    async def prepare(self, function: FunctionRecord, task_id: str) -> ContainerSpec:
        assert self._dispatcher is not None
        path = self._sockets / task_id[-8:]
        server = GrpcServer(self._dispatcher.servable(Caller(task_id)), self._traffic)
        self._servers[task_id] = server
        await server.start(path=str(path))
        return self._spec(function, task_id, path, await self._python(function.definition))

    async def step(
        self, image: ImageRecord, layer: api_pb2.Image, task_id: str, environment: Mapping[str, str]
    ) -> ContainerSpec:
        """A container for a command of an image's layer: what is there of the image, and nothing runs in it yet."""
        return ContainerSpec(
            task_id=task_id,
            arguments=b"",
            control_socket=self._sockets / "none",
            environment=environment,
            image_id=image.image_id,
            python=await self._python_of(image),
            workdir=image.workdir,
            files=self._files(api_pb2.Function(), image),
            volumes=self._volumes(api_pb2.Function(volume_mounts=layer.volume_mounts)),
            changes=self._changes / task_id,
            bare=True,
        )

    async def _python(self, definition: Definition) -> OwnPython | None:
        image = self._state.images.get(definition.image_id, BARE_IMAGE)
        try:
            return await self._python_of(image)
        except BuildFailed as error:
            raise ContainerStartError(f"its image {image.image_id} could not be built: {error}") from error

    async def release(self, task_id: str) -> None:
        server = self._servers.pop(task_id, None)
        if server is not None:
            server.close()
            await server.wait_closed()
        (self._sockets / task_id[-8:]).unlink(missing_ok=True)
        await self._views.close(task_id)

    async def close(self) -> None:
        for task_id in list(self._servers):
            await self.release(task_id)
        shutil.rmtree(self._sockets, ignore_errors=True)

    def _spec(self, function: FunctionRecord, task_id: str, socket: Path, python: OwnPython | None) -> ContainerSpec:
        definition = function.definition
        image = self._state.images.get(definition.image_id, BARE_IMAGE)
        app = self._state.apps[function.app_id]
        fixed = self._fixed_ports(definition)
        blocked = blocks_network(definition)
        arguments = api_pb2.ContainerArguments(
            task_id=task_id,
            function_id=function.function_id,
            app_id=function.app_id,
            function_def=definition,
            serialized_params=function.serialized_params,
            environment_name=app.environment,
            app_layout=app_layout(self._state, app, function),
        )
        return ContainerSpec(
            task_id=task_id,
            arguments=arguments.SerializeToString(),
            control_socket=socket,
            environment={
                **self._environment(),
                **image.environment,
                **self._secrets(definition),
                "MODAL_ENVIRONMENT": app.environment,
                **_whereabouts(definition),
            },
            image_id=definition.image_id,
            python=python,
            changes=self._changes / function.function_id if definition.is_builder_function else None,
            workdir=image.workdir,
            files=self._files(definition, image),
            volumes=self._volumes(definition),
            views=self._views_of(definition, task_id),
            read_only=frozenset(mount.mount_path for mount in definition.volume_mounts if mount.read_only),
            # A web_server function looks for an `eth0`, which a private network has and a laptop's own may not.
            private_network=blocked
            or definition.is_server
            or definition.webhook_config.type == api_pb2.WEBHOOK_TYPE_WEB_SERVER,
            block_network=blocked,
            fixed_ports=fixed,
            # Its own ports first: a web address of this machine may have the same number as a Server's port.
            shared_ports=tuple(port for port in self._shared_ports()[: 1 if blocked else None] if port not in fixed),
        )

    async def sandbox(self, sandbox: Sandbox) -> tuple[ContainerSpec, list[str]]:
        """A Sandbox's container, and the words of its command. Raises `ContainerStartError`."""
        definition = sandbox.definition
        image = self._state.images.get(definition.image_id, BARE_IMAGE)
        blocked = sandbox_blocks_network(definition)
        ports = [port.port for port in definition.open_ports.ports]
        if definition.readiness_probe.tcp_port:
            ports.append(definition.readiness_probe.tcp_port)
        spec = ContainerSpec(
            task_id=sandbox.task_id,
            arguments=b"",
            control_socket=self._sockets / "none",
            environment={
                **({} if blocked else self._sandbox_environment()),
                **image.environment,
                **self._secrets(definition),
                **dict(definition.environment_variables.contents),
                **sandbox.secrets,
                **_whereabouts(definition),
                "MODAL_SANDBOX_ID": sandbox.sandbox_id,
            },
            image_id=definition.image_id,
            python=await self._python(definition),
            workdir=definition.workdir or image.workdir,
            files=self._files(definition, image),
            volumes=self._volumes(definition),
            views=self._views_of(definition, sandbox.task_id),
            read_only=frozenset(mount.mount_path for mount in definition.volume_mounts if mount.read_only),
            bare=True,
            # Several that listen on the same port are each reached through their own tunnels.
            private_network=blocked or bool(ports),
            block_network=blocked,
            fixed_ports=tuple(dict.fromkeys(ports)),
            shared_ports=() if blocked else tuple(port for port in self._shared_ports() if port not in ports),
        )
        return spec, [*image.entrypoint, *(definition.entrypoint_args or image.command or DEFAULT_COMMAND)]

    async def release_sandbox(self, sandbox: Sandbox) -> None:
        """It has ended, in whatever way: what it has changed of Volumes is committed."""
        await self._views.close(sandbox.task_id, commit=True)

    def _sandbox_environment(self) -> dict[str, str]:
        return {**self._environment(), "MODAL_SERVER_URL": self._server_url}

    def _fixed_ports(self, definition: api_pb2.Function) -> tuple[int, ...]:
        if definition.is_server:
            return (definition.http_config.port,)
        web_server = definition.webhook_config.type == api_pb2.WEBHOOK_TYPE_WEB_SERVER
        return (definition.webhook_config.web_server_port,) if web_server else ()

    def _secrets(self, definition: Definition) -> dict[str, str]:
        values: dict[str, str] = {}
        for secret_id in definition.secret_ids:
            if (secret := self._state.secrets.get(secret_id)) is None:
                raise _deleted(f"the Secret {secret_id}")
            secret.last_used_at = self._clock.time()
            values.update(secret.values)
        return values

    def _files(self, definition: Definition, image: ImageRecord) -> list[MountedFile]:
        files = [MountedFile(path, self._content.path(sha256), mode) for path, sha256, mode in image.copied]
        for mount_id in definition.mount_ids:
            for file in self._state.mounts[mount_id].files:
                files.append(MountedFile(file.filename, self._content.path(file.sha256_hex), file.mode or 0o644))
        return files

    def _volumes(self, definition: Definition) -> dict[str, Path]:
        folders: dict[str, Path] = {}
        for mount in definition.volume_mounts:
            volume = self._state.volumes.get(mount.volume_id)
            if volume is None:
                raise _deleted(f"the Volume {mount.volume_id} that is mounted at {mount.mount_path}")
            try:
                files = self._volume_store.of(volume.volume_id, volume.path)
                folders[mount.mount_path] = files.part(mount.sub_path)
            except (PathError, OSError) as error:
                raise ContainerStartError(f"nothing can be mounted at {mount.mount_path}: {error}") from error
        return folders

    def _views_of(self, definition: Definition, task_id: str) -> dict[str, View]:
        return {
            mount.mount_path: self._views.make(
                task_id,
                mount.volume_id,
                self._volume_store.of(mount.volume_id, self._state.volumes[mount.volume_id].path),
                sub_path=mount.sub_path,
                read_only=mount.read_only,
            )
            for mount in definition.volume_mounts
        }


def _whereabouts(definition: Definition) -> dict[str, str]:
    """Where Modal says that a container runs: what was asked for, since code may branch on it, or "local"."""
    return {
        "MODAL_CLOUD_PROVIDER": definition.cloud_provider_str or "local",
        "MODAL_REGION": next(iter(definition.scheduler_placement.regions), "local"),
    }


def _deleted(what: str) -> ContainerStartError:
    return ContainerStartError(f"{what} has been deleted: create it again, and deploy the app again")
