"""All Sandboxes: begun, held to their limits, found again, ended. The scheduler does not know them."""

from __future__ import annotations

import asyncio
import codecs
from collections.abc import Awaitable, Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from grpclib import GRPCError, Status

from emulator.containers.base import Command, ContainerStartError
from emulator.ids import new_id
from emulator.protocol.dispatch import exists, not_found
from emulator.sandboxes.commands import Execs, LiveCommand
from emulator.sandboxes.definition import check, terminal_of, terminal_variables
from emulator.sandboxes.readiness import until_ready
from emulator.sandboxes.sandbox import IDLE, TERMINATED, TIMED_OUT, Result, Sandbox, result_of
from emulator.sandboxes.tunnels import Tunnel
from emulator.scheduler.history import Task

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator, Mapping

    from modal_proto import api_pb2

    from emulator.clock import Clock
    from emulator.containers.base import Container, ContainerRuntime, ContainerSpec, Stream
    from emulator.sandboxes.tunnels import Certificate
    from emulator.scheduler.history import History

MOST = 100
"""Sandboxes that run at the same time."""
FINISHED_KEPT = 200
"""Those that have ended, for whoever asks about them afterwards."""
CLOSE_LIMIT = 10.0
"""Seconds in which a Sandbox's container must have ended after its kill."""

Describe = Callable[[Sandbox], Awaitable[tuple["ContainerSpec", list[str]]]]
"""A Sandbox's container, and the words of its command. Raises `ContainerStartError`."""
Heard = Callable[[Sandbox, "Stream", str], None]


class Sandboxes:
    def __init__(
        self,
        *,
        clock: Clock,
        history: History,
        runtime: ContainerRuntime,
        describe: Describe,
        release: Callable[[Sandbox], Awaitable[None]],
        heard: Heard,
        certificate: Certificate,
        max_starting: int,
    ) -> None:
        self.execs = Execs()
        self._clock = clock
        self._history = history
        self._runtime = runtime
        self._describe = describe
        self._release = release
        self._heard = heard
        self._certificate = certificate
        self._starting = asyncio.Semaphore(max_starting)
        self._by_id: dict[str, Sandbox] = {}
        self._by_task: dict[str, Sandbox] = {}
        self._decoders: dict[str, dict[Literal["stdout", "stderr"], codecs.IncrementalDecoder]] = {}
        """Of what each writes, by container."""

    # Found

    @property
    def all(self) -> list[Sandbox]:
        """Those that run, and those of late."""
        return list(self._by_id.values())

    def running(self, app_id: str | None = None) -> Iterator[Sandbox]:
        return (one for one in self.all if one.running and app_id in (None, one.app_id))

    def moving(self) -> list[str]:
        """What is under way, for who waits until nothing is: what a Sandbox's command does is its own affair."""
        return [
            f"Sandbox {one.sandbox_id} {'is being ended' if one.ending else 'starts'}"
            for one in self.running()
            if one.ending or one.container is None
        ]

    def get(self, sandbox_id: str) -> Sandbox:
        """Raises `GRPCError` (NOT_FOUND)."""
        if (found := self._by_id.get(sandbox_id)) is None:
            raise not_found(f"No Sandbox with ID {sandbox_id}")
        return found

    def of_task(self, task_id: str) -> Sandbox | None:
        return self._by_task.get(task_id)

    def named(self, app_id: str, name: str, *, ended: bool = False) -> Sandbox | None:
        """The one of that name that runs; with `ended` the last that had it, where none does."""
        found = [one for one in self.all if (one.app_id, one.name) == (app_id, name)]
        running = [one for one in found if one.running]
        return (running or (found if ended else []) or [None])[-1]  # type: ignore[list-item]

    # Begun

    async def create(
        self,
        app_id: str,
        definition: api_pb2.Sandbox,
        *,
        tags: Mapping[str, str],
        secrets: Mapping[str, str],
        second: bool,
    ) -> Sandbox:
        """Begin one. Raises `GRPCError` for what Modal or this emulator refuses."""
        check(definition)
        if definition.name:
            self._refuse_taken_name(app_id, definition.name)
        if sum(1 for _ in self.running()) >= MOST:
            raise GRPCError(Status.RESOURCE_EXHAUSTED, f"{MOST} Sandboxes run already: there is no room for more")
        # The client knows Modal's second kind by the form of its ids.
        task_id = new_id("ta") + ("V" if second else "")
        sandbox = Sandbox(
            sandbox_id="sb" + new_id("ta").removeprefix("ta") if second else new_id("sb"),
            task_id=task_id,
            app_id=app_id,
            definition=definition,
            secrets=dict(secrets),
            tags=dict(tags),
            created_at=self._clock.time(),
            second=second,
            command=LiveCommand(heard=lambda stream, data: self._decode(sandbox, stream, data)),
            name=definition.name,
            used_at=self._clock.monotonic(),
        )
        self._decoders[sandbox.task_id] = {"stdout": _decoder(), "stderr": _decoder()}
        await self._open_tunnels(sandbox)
        self._by_id[sandbox.sandbox_id] = self._by_task[task_id] = sandbox
        self._history.add(Task(task_id, app_id, "", "", sandbox.created_at))
        sandbox.life = asyncio.create_task(self._live(sandbox))
        return sandbox

    def _refuse_taken_name(self, app_id: str, name: str) -> None:
        if self.named(app_id, name) is not None:
            raise exists(f"A running Sandbox of this App is already named '{name}'")

    def rename(self, sandbox: Sandbox, name: str) -> None:
        """Give one that has no name yet a name. Raises `GRPCError`."""
        if sandbox.name == name:
            return
        if sandbox.name or not sandbox.running:
            what = f"is named '{sandbox.name}'" if sandbox.name else "has ended"
            raise GRPCError(Status.FAILED_PRECONDITION, f"Sandbox {sandbox.sandbox_id} {what}")
        self._refuse_taken_name(sandbox.app_id, name)
        sandbox.name = name

    async def _open_tunnels(self, sandbox: Sandbox) -> None:
        async def dial(port: int) -> socket.socket:
            container = await sandbox.started()
            if container is None:
                raise ConnectionRefusedError("the Sandbox has ended")
            return await container.dial(port)

        for spec in sandbox.definition.open_ports.ports:
            tunnel = Tunnel(spec, self._certificate, dial, lambda: self.in_use(sandbox))
            sandbox.tunnels.append(tunnel)
            await tunnel.listen()

    # Alive

    async def _live(self, sandbox: Sandbox) -> None:
        result = Result(status=Result.GENERIC_STATUS_INTERNAL_FAILURE, exitcode=1, exception="The emulator lost it")
        try:
            result = await self._run(sandbox)
        except ContainerStartError as error:
            self._heard(sandbox, "system", f"The Sandbox could not be started: {error}\n")
            result = Result(status=Result.GENERIC_STATUS_INIT_FAILURE, exitcode=1, exception=str(error))
        except Exception as error:  # whatever it is: nobody else would ever hear of it
            self._heard(sandbox, "system", f"The Sandbox was lost: {error!r}\n")
            result.exception = f"The Sandbox was lost: {error!r}"
        finally:
            await self._release(sandbox)
            await self._finish(sandbox, sandbox.ending or result)

    async def _run(self, sandbox: Sandbox) -> api_pb2.GenericResult:
        spec, words = await self._describe(sandbox)
        async with self._starting:
            if sandbox.ending is not None:
                return sandbox.ending
            container = await self._runtime.start(spec, lambda _, __, text: self._heard(sandbox, "system", text))
        watching = asyncio.create_task(self._watch(sandbox, container))
        try:
            self._began(sandbox, container)
            info = sandbox.definition.pty_info
            command = Command(words=words, environment=terminal_variables(info), terminal=terminal_of(info), main=True)
            await sandbox.command.run(container, command)
        finally:
            watching.cancel()
            container.kill()
            await container.wait()
            await asyncio.gather(watching, return_exceptions=True)
        return result_of(sandbox.command.code or 0)

    def _began(self, sandbox: Sandbox, container: Container) -> None:
        sandbox.container = container
        sandbox.started_at = self._clock.time()
        self._history.started(sandbox.task_id, sandbox.started_at)
        if sandbox.ending is not None:
            container.kill()
        sandbox.changed.notify()

    async def _watch(self, sandbox: Sandbox, container: Container) -> None:
        """See whether it is ready, and end it when its time is over."""
        probe = sandbox.definition.readiness_probe
        ready = asyncio.create_task(self._see_ready(sandbox, container)) if probe.interval_ms else None
        try:
            await self._until_over(sandbox)
        finally:
            if ready is not None:
                ready.cancel()
                await asyncio.gather(ready, return_exceptions=True)

    async def _until_over(self, sandbox: Sandbox) -> None:
        definition = sandbox.definition
        ends = self._clock.monotonic() + definition.timeout_secs
        while True:
            at, why = ends, TIMED_OUT
            if definition.idle_timeout_secs and not sandbox.active:
                at, why = min((ends, TIMED_OUT), (sandbox.used_at + definition.idle_timeout_secs, IDLE), key=_when)
            if (left := at - self._clock.monotonic()) <= 0:
                self.end(sandbox, why)
                return
            try:
                async with self._clock.timeout(left):
                    await sandbox.changed.wait()
            except TimeoutError:
                continue

    async def _see_ready(self, sandbox: Sandbox, container: Container) -> None:
        await until_ready(container, sandbox.definition.readiness_probe, self._clock.outside)
        sandbox.ready_at = self._clock.time()
        sandbox.changed.notify()

    @contextmanager
    def in_use(self, sandbox: Sandbox) -> Iterator[None]:
        """It is not idle within, and has not been until just now."""
        sandbox.active += 1
        try:
            yield
        finally:
            sandbox.active -= 1
            sandbox.used_at = self._clock.monotonic()
            sandbox.changed.notify()

    def _decode(self, sandbox: Sandbox, stream: Literal["stdout", "stderr"], data: bytes) -> None:
        if text := self._decoders[sandbox.task_id][stream].decode(data):
            self._heard(sandbox, stream, text)

    # Ended

    def end(self, sandbox: Sandbox, why: api_pb2.GenericResult = TERMINATED) -> None:
        """End one now. Harmless when it has ended."""
        if sandbox.running and sandbox.ending is None and sandbox.command.code is None:
            sandbox.ending = why
            if sandbox.container is not None:
                sandbox.container.kill()

    async def _finish(self, sandbox: Sandbox, result: api_pb2.GenericResult) -> None:
        for tunnel in sandbox.tunnels:
            await tunnel.close()
        sandbox.command.close()
        self.execs.close_task(sandbox.task_id)
        for stream, decoder in self._decoders.pop(sandbox.task_id).items():
            self._heard(sandbox, stream, decoder.decode(b"", final=True))
        sandbox.container = None
        sandbox.finished_at = self._clock.time()
        sandbox.result = result
        failed = result.status not in (Result.GENERIC_STATUS_SUCCESS, Result.GENERIC_STATUS_TERMINATED)
        self._history.finished(sandbox.task_id, sandbox.finished_at, failed=failed)
        sandbox.changed.notify()
        self._forget()

    def _forget(self) -> None:
        for sandbox in [one for one in self.all if not one.running][:-FINISHED_KEPT]:
            del self._by_id[sandbox.sandbox_id], self._by_task[sandbox.task_id]

    async def stop_app(self, app_id: str | None = None) -> None:
        """End all of an app, or all. Returns when they have ended."""
        lives = []
        for sandbox in self.running(app_id):
            self.end(sandbox)
            if sandbox.life is not None:
                lives.append(sandbox.life)
        if not lives:
            return
        try:
            async with self._clock.outside.timeout(CLOSE_LIMIT):
                await asyncio.wait(lives)
        except TimeoutError:
            for life in lives:
                life.cancel()

    async def close(self) -> None:
        await self.stop_app()
        await self.execs.close()


def _when(limit: tuple[float, api_pb2.GenericResult]) -> float:
    return limit[0]


def _decoder() -> codecs.IncrementalDecoder:
    return codecs.getincrementaldecoder("utf-8")(errors="replace")
