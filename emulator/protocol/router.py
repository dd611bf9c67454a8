"""The second gRPC service that clients speak: commands in containers, and the streams of Sandboxes.

On Modal each worker has one, and the control plane tells its address and a token for one container. Here it is one more
port of 127.0.0.1, which takes the tokens that the control plane has given out.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from grpclib import GRPCError, Status
from modal_proto import task_command_router_pb2 as router_pb2

from emulator.containers.base import Command, OpenFilesError
from emulator.protocol.dispatch import Caller, Dispatcher, invalid, not_found
from emulator.protocol.grpc import GrpcServer
from emulator.protocol.server import bind
from emulator.sandboxes.commands import Exec, LiveCommand
from emulator.sandboxes.definition import terminal_of, terminal_variables
from emulator.sandboxes.streams import StdinClosed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from emulator.clock import Clock
    from emulator.containers.base import Container
    from emulator.protocol.grpc import Traffic
    from emulator.protocol.tokens import ShortTokens
    from emulator.sandboxes.sandbox import Sandbox
    from emulator.sandboxes.sandboxes import Sandboxes

    Secrets = Callable[["router_pb2.TaskExecStartRequest"], dict[str, str]]

SERVICE = router_pb2.DESCRIPTOR.services_by_name["TaskCommandRouter"]


class Router:
    """Its server. `access` is what a client needs in order to be served for one container."""

    def __init__(
        self, handlers: RouterHandlers, tokens: ShortTokens, traffic: Traffic, say: Callable[[str], None]
    ) -> None:
        self._tokens = tokens
        self._server = GrpcServer(Dispatcher([handlers], say, service=SERVICE).servable(Caller()), traffic)
        self._listener = bind(0)
        self.port = int(self._listener.getsockname()[1])
        self._started = False

    async def start(self) -> None:
        await self._server.start(sock=self._listener)
        self._started = True

    def access(self, task_id: str) -> tuple[str, str]:
        """(url, token)"""
        return f"http://127.0.0.1:{self.port}", self._tokens.issue(container=task_id)

    async def close(self) -> None:
        if self._started:
            self._server.close()
            await self._server.wait_closed()
        self._listener.close()


class RouterHandlers:
    """`container` finds one that runs, and raises `GRPCError`; `secrets` are the variables that a command is given."""

    def __init__(
        self,
        sandboxes: Sandboxes,
        tokens: ShortTokens,
        clock: Clock,
        *,
        container: Callable[[str], Awaitable[Container]],
        reload: Callable[[str], Awaitable[None]],
        secrets: Secrets,
    ) -> None:
        self._sandboxes = sandboxes
        self._tokens = tokens
        self._clock = clock
        self._container = container
        self._reload = reload
        self._secrets = secrets

    def _admit(self, task_id: str, caller: Caller) -> None:
        if not self._tokens.admits(caller.authorization.removeprefix("Bearer "), container=task_id):
            raise GRPCError(Status.UNAUTHENTICATED, f"The token is not one for commands in container {task_id}")

    # Commands

    async def TaskExecStart(
        self, request: router_pb2.TaskExecStartRequest, caller: Caller
    ) -> router_pb2.TaskExecStartResponse:
        self._admit(request.task_id, caller)
        if self._sandboxes.execs.get(request.task_id, request.exec_id) is not None:
            return router_pb2.TaskExecStartResponse()  # told again by a client that has not heard the answer
        if request.container_id:
            raise GRPCError(Status.UNIMPLEMENTED, "The emulator does not implement sidecars")
        if not request.command_args:
            raise invalid("A command needs at least one word")
        if request.stderr_config == router_pb2.TASK_EXEC_STDERR_CONFIG_STDOUT:
            raise GRPCError(Status.UNIMPLEMENTED, "The emulator does not implement stderr that is merged into stdout")
        container = await self._container(request.task_id)
        command = Command(
            words=list(request.command_args),
            environment={**self._secrets(request), **terminal_variables(request.pty_info)},
            workdir=request.workdir,
            terminal=terminal_of(request.pty_info),
        )
        live = LiveCommand(
            keep_stdout=request.stdout_config == router_pb2.TASK_EXEC_STDOUT_CONFIG_PIPE,
            keep_stderr=request.stderr_config == router_pb2.TASK_EXEC_STDERR_CONFIG_PIPE,
        )
        made = Exec(live, timeout=request.timeout_secs or None, clock=self._clock)
        self._sandboxes.execs.add(request.task_id, request.exec_id, made)
        made.task = asyncio.create_task(self._run(made, container, command, request.task_id, request.exec_id))
        await live.started()
        if live.lost:
            raise not_found(live.lost)
        return router_pb2.TaskExecStartResponse()

    async def _run(self, made: Exec, container: Container, command: Command, task_id: str, exec_id: str) -> None:
        sandbox = self._sandboxes.of_task(task_id)
        if sandbox is None:
            await made.run(container, command)
        else:
            with self._sandboxes.in_use(sandbox):
                await made.run(container, command)
        self._sandboxes.execs.ended(task_id, exec_id)

    def _exec(self, task_id: str, exec_id: str, caller: Caller) -> Exec:
        self._admit(task_id, caller)
        if (found := self._sandboxes.execs.get(task_id, exec_id)) is None:
            raise not_found(f"No command {exec_id} in container {task_id}")
        return found

    async def TaskExecWait(
        self, request: router_pb2.TaskExecWaitRequest, caller: Caller
    ) -> router_pb2.TaskExecWaitResponse:
        code = await self._exec(request.task_id, request.exec_id, caller).wait()
        return router_pb2.TaskExecWaitResponse(**_status(code))

    async def TaskExecPoll(
        self, request: router_pb2.TaskExecPollRequest, caller: Caller
    ) -> router_pb2.TaskExecPollResponse:
        found = self._exec(request.task_id, request.exec_id, caller)
        return router_pb2.TaskExecPollResponse(**(_status(await found.command.wait()) if found.told else {}))

    async def TaskExecStdioRead(
        self, request: router_pb2.TaskExecStdioReadRequest, caller: Caller
    ) -> AsyncIterator[router_pb2.TaskExecStdioReadResponse]:
        command = self._exec(request.task_id, request.exec_id, caller).command
        is_stderr = request.file_descriptor == router_pb2.TASK_EXEC_STDIO_FILE_DESCRIPTOR_STDERR
        stream, expected = command.stderr if is_stderr else command.stdout, request.offset
        async for offset, data in stream.pieces(request.offset):
            if offset > expected:
                raise GRPCError(
                    Status.DATA_LOSS,
                    f"{offset - expected} bytes of the command's output were not read in time and are no longer kept",
                )
            expected = offset + len(data)
            yield router_pb2.TaskExecStdioReadResponse(data=data)

    async def TaskExecStdinWrite(
        self, request: router_pb2.TaskExecStdinWriteRequest, caller: Caller
    ) -> router_pb2.TaskExecStdinWriteResponse:
        command = self._exec(request.task_id, request.exec_id, caller).command
        await write(command, request.data, offset=request.offset, eof=request.eof)
        return router_pb2.TaskExecStdinWriteResponse()

    async def TaskExecStdinWriteStream(
        self, requests: AsyncIterator[router_pb2.TaskExecStdinWriteStreamRequest], caller: Caller
    ) -> router_pb2.TaskExecStdinWriteStreamResponse:
        command: LiveCommand | None = None
        offset = 0
        async for request in requests:
            kind = request.WhichOneof("payload")
            if kind == "start":
                command = self._exec(request.start.task_id, request.start.exec_id, caller).command
                offset = request.start.offset
            elif command is None:
                raise invalid("A stream of stdin begins with where it is to go")
            else:
                await write(command, request.data, offset=offset, eof=kind == "end")
                offset += len(request.data)
        return router_pb2.TaskExecStdinWriteStreamResponse()

    async def TaskExecStdinStatus(
        self, request: router_pb2.TaskExecStdinStatusRequest, caller: Caller
    ) -> router_pb2.TaskExecStdinStatusResponse:
        stdin = self._exec(request.task_id, request.exec_id, caller).command.stdin
        if stdin is None:
            return router_pb2.TaskExecStdinStatusResponse(closed=True)
        return router_pb2.TaskExecStdinStatusResponse(num_bytes_written=stdin.accepted, closed=stdin.closed)

    # A Sandbox's own streams

    def _sandbox(self, task_id: str, caller: Caller) -> Sandbox:
        self._admit(task_id, caller)
        if (found := self._sandboxes.of_task(task_id)) is None:
            raise not_found(f"No Sandbox in container {task_id}")
        return found

    async def SandboxStdioReadV2(
        self, request: router_pb2.SandboxStdioReadV2Request, caller: Caller
    ) -> AsyncIterator[router_pb2.SandboxStdioReadV2Response]:
        command = self._sandbox(request.task_id, caller).command
        is_stderr = request.file_descriptor == router_pb2.SANDBOX_STDIO_FILE_DESCRIPTOR_STDERR
        async for offset, data in (command.stderr if is_stderr else command.stdout).pieces(request.offset):
            yield router_pb2.SandboxStdioReadV2Response(data=data, starting_offset=offset)

    async def SandboxStdinWriteV2(
        self, request: router_pb2.SandboxStdinWriteV2Request, caller: Caller
    ) -> router_pb2.SandboxStdinWriteV2Response:
        sandbox = self._sandbox(request.task_id, caller)
        with self._sandboxes.in_use(sandbox):
            await write(sandbox.command, request.data, offset=request.offset, eof=request.eof)
        return router_pb2.SandboxStdinWriteV2Response()

    async def SandboxWaitUntilReady(
        self, request: router_pb2.SandboxWaitUntilReadyTcrRequest, caller: Caller
    ) -> router_pb2.SandboxWaitUntilReadyTcrResponse:
        sandbox = self._sandbox(request.task_id, caller)
        ready_at = await until_ready(sandbox, request.timeout, self._clock.outside)
        return router_pb2.SandboxWaitUntilReadyTcrResponse(ready_at=ready_at)

    async def TaskReloadVolumes(
        self, request: router_pb2.TaskReloadVolumesRequest, caller: Caller
    ) -> router_pb2.TaskReloadVolumesResponse:
        self._sandbox(request.task_id, caller)
        try:
            await self._reload(request.task_id)
        except (OpenFilesError, ConnectionError) as error:
            raise GRPCError(Status.FAILED_PRECONDITION, str(error)) from error
        return router_pb2.TaskReloadVolumesResponse()


async def write(command: LiveCommand, data: bytes, *, offset: int | None, eof: bool) -> None:
    """Raises `GRPCError`: FAILED_PRECONDITION (the client's ConflictError) where nobody reads."""
    try:
        await command.write(data, offset=offset, eof=eof)
    except StdinClosed as error:
        raise GRPCError(Status.FAILED_PRECONDITION, str(error)) from error
    except ValueError as error:
        raise invalid(str(error)) from error


async def until_ready(sandbox: Sandbox, timeout: float, clock: Clock) -> float:
    """When its probe held. Raises `GRPCError`: DEADLINE_EXCEEDED, or FAILED_PRECONDITION when it ends first."""
    if not sandbox.definition.HasField("readiness_probe"):
        raise invalid("The Sandbox has no `readiness_probe`")
    try:
        async with clock.timeout(timeout):
            while sandbox.running and not sandbox.ready_at:
                await sandbox.changed.wait()
    except TimeoutError:
        raise GRPCError(Status.DEADLINE_EXCEEDED, f"The Sandbox was not ready within {timeout:g}s") from None
    if not sandbox.ready_at:
        raise GRPCError(Status.FAILED_PRECONDITION, "The Sandbox has ended before it was ready")
    return sandbox.ready_at


def _status(code: int) -> Mapping[str, int]:
    return {"signal": -code} if code < 0 else {"code": code}
