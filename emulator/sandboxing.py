"""Sandboxes and commands in containers, put together: their state, the RPCs about them, and the router of commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modal_proto import api_pb2

from emulator.containers import choose_runtime
from emulator.logs import LogLine
from emulator.protocol.dispatch import not_found
from emulator.protocol.entries import STREAMS, output
from emulator.protocol.router import Router, RouterHandlers
from emulator.protocol.sandboxes import SandboxHandlers
from emulator.sandboxes.sandboxes import Sandboxes
from emulator.sandboxes.tunnels import Certificate
from emulator.sandboxes.variables import variables

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from emulator.clock import Clock
    from emulator.containers.base import Container, ContainerRuntime, ContainerSpec, Stream
    from emulator.launcher import ContainerLauncher
    from emulator.logs import LogSink
    from emulator.protocol.grpc import Traffic
    from emulator.protocol.tokens import ShortTokens
    from emulator.sandboxes.sandbox import Sandbox
    from emulator.scheduler.history import History
    from emulator.scheduler.scheduler import Scheduler
    from emulator.state import State
    from emulator.storage.views import Views


class Sandboxing:
    """`runtime` starts Sandboxes' containers; None: one of their own does, of processes. `folder` is for a while."""

    def __init__(
        self,
        *,
        state: State,
        clock: Clock,
        history: History,
        runtime: ContainerRuntime | None,
        launcher: ContainerLauncher,
        views: Views,
        scheduler: Scheduler,
        tokens: ShortTokens,
        folder: Path,
        max_starting: int,
        traffic: Traffic,
        log: LogSink | None,
        say: Callable[[str], None],
    ) -> None:
        self._state = state
        self._clock = clock
        self._launcher = launcher
        self._scheduler = scheduler
        self._log = log
        processes = runtime or choose_runtime()
        self._own_runtime = processes if runtime is None else None
        self.sandboxes = Sandboxes(
            clock=clock,
            history=history,
            runtime=processes,
            describe=self._describe,
            release=launcher.release_sandbox,
            heard=self._heard,
            certificate=Certificate(folder / "tunnels.pem", say),
            max_starting=max_starting,
        )
        commands = RouterHandlers(
            self.sandboxes,
            tokens,
            clock,
            container=self._running,
            reload=views.reload,
            secrets=lambda request: variables(state, request),
        )
        self._router = Router(commands, tokens, traffic, say)
        self.handlers = SandboxHandlers(state, self.sandboxes, clock.outside, self._router, tokens)

    @property
    def port(self) -> int:
        """Of the router."""
        return self._router.port

    async def start(self) -> None:
        await self._router.start()

    async def close(self) -> None:
        try:
            await self.sandboxes.close()
        finally:
            await self._router.close()
            if self._own_runtime is not None:
                await self._own_runtime.close()

    async def _describe(self, sandbox: Sandbox) -> tuple[ContainerSpec, list[str]]:
        if (image_id := sandbox.definition.image_id) not in self._state.images:
            # A client keeps its default image for as long as its process lives, whichever server it speaks to then.
            self._heard(sandbox, "system", f"Image {image_id} is not known to this emulator: taken for a plain one\n")
        return await self._launcher.sandbox(sandbox)

    async def _running(self, task_id: str) -> Container:
        """A container to run a command in. Raises `GRPCError`."""
        sandbox, place = self.sandboxes.of_task(task_id), self._scheduler.find(task_id)
        container = await sandbox.started() if sandbox is not None else place and place[1].container
        if container is None:
            raise not_found(f"Container {task_id} {'has ended' if place is None else 'is not there yet'}")
        return container

    def _heard(self, sandbox: Sandbox, stream: Stream, text: str) -> None:
        """An empty text: nothing more comes."""
        app = self._state.apps.get(sandbox.app_id)
        if app is None:
            return
        if text:
            app.log.append(output(text, STREAMS[stream], now=self._clock.time(), task_id=sandbox.task_id))
        if self._log is not None and stream != "system":
            followed = app.state == api_pb2.APP_STATE_EPHEMERAL
            name = app.name or app.description
            self._log(LogLine(text, stream, name, sandbox.name or "sandbox", sandbox.task_id, followed=followed))
