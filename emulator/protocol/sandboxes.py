"""Sandboxes as the control plane knows them: created, found, listed, waited for, ended.

Modal has two kinds, which the client tells apart by their ids; each has RPCs of its own, with the same messages. What
is asked of one by the other's RPC is answered all the same.
"""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING

from google.protobuf.empty_pb2 import Empty
from grpclib import GRPCError, Status
from modal_proto import api_pb2

from emulator.protocol.dispatch import not_found
from emulator.protocol.lookup import app_of
from emulator.protocol.named import check_name, environment_named
from emulator.protocol.router import until_ready, write
from emulator.protocol.schema import made
from emulator.sandboxes.sandbox import Result
from emulator.sandboxes.variables import variables

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from emulator.clock import Clock
    from emulator.protocol.dispatch import Caller
    from emulator.protocol.router import Router
    from emulator.protocol.tokens import ShortTokens
    from emulator.sandboxes.sandbox import Sandbox
    from emulator.sandboxes.sandboxes import Sandboxes
    from emulator.signals import Signal
    from emulator.state import State


class SandboxHandlers:
    """`clock` is the one of those who wait."""

    def __init__(self, state: State, sandboxes: Sandboxes, clock: Clock, router: Router, tokens: ShortTokens) -> None:
        self._state = state
        self._sandboxes = sandboxes
        self._clock = clock
        self._router = router
        self._tokens = tokens

    async def AuthTokenGet(self, _request: api_pb2.AuthTokenGetRequest, _: Caller) -> api_pb2.AuthTokenGetResponse:
        """A token that the client sends along with what it asks of the second kind, beside the emulator's own."""
        return api_pb2.AuthTokenGetResponse(token=self._tokens.issue(purpose="sandboxes"))

    # Created

    async def SandboxCreate(self, request: api_pb2.SandboxCreateRequest, _: Caller) -> api_pb2.SandboxCreateResponse:
        sandbox = await self._create(request, {}, second=False)
        return made(api_pb2.SandboxCreateResponse, sandbox_id=sandbox.sandbox_id, metadata=_metadata(sandbox))

    async def SandboxCreateV2(
        self, request: api_pb2.SandboxCreateV2Request, _: Caller
    ) -> api_pb2.SandboxCreateV2Response:
        sandbox = await self._create(request, variables(self._state, request), second=True)
        url, token = self._router.access(sandbox.task_id)
        return made(
            api_pb2.SandboxCreateV2Response,
            sandbox_id=sandbox.sandbox_id,
            task_id=sandbox.task_id,
            metadata=_metadata(sandbox),
            tunnels=[tunnel.data for tunnel in sandbox.tunnels],
            command_router_access=api_pb2.CommandRouterAccess(url=url, jwt=token),
        )

    async def _create(
        self,
        request: api_pb2.SandboxCreateRequest | api_pb2.SandboxCreateV2Request,
        secrets: dict[str, str],
        *,
        second: bool,
    ) -> Sandbox:
        app = app_of(self._state, request.app_id)
        if not app.live:
            raise GRPCError(Status.FAILED_PRECONDITION, f"App {app.app_id} has been stopped")
        tags = {tag.tag_name: tag.tag_value for tag in request.tags}
        return await self._sandboxes.create(app.app_id, request.definition, tags=tags, secrets=secrets, second=second)

    # Found

    async def SandboxGetFromName(
        self, request: api_pb2.SandboxGetFromNameRequest, _: Caller
    ) -> api_pb2.SandboxGetFromNameResponse:
        environment = environment_named(self._state, request.environment_name).name
        app = self._state.deployed(request.app_name, environment)
        ended = getattr(request, "include_terminated", False)  # which clients before 1.6 do not ask
        found = None if app is None else self._sandboxes.named(app.app_id, request.sandbox_name, ended=ended)
        if found is None:
            raise not_found(f"No Sandbox named '{request.sandbox_name}' in App '{request.app_name}'")
        return made(api_pb2.SandboxGetFromNameResponse, sandbox_id=found.sandbox_id, metadata=_metadata(found))

    SandboxGetFromNameV2 = SandboxGetFromName

    async def SandboxList(self, request: api_pb2.SandboxListRequest, _: Caller) -> api_pb2.SandboxListResponse:
        """Those of the first kind, newest first."""
        return self._listed(request, lambda sandbox: not sandbox.second)

    async def SandboxListV2(self, request: api_pb2.SandboxListRequest, _: Caller) -> api_pb2.SandboxListResponse:
        """Those of both kinds, newest first."""
        return self._listed(request, lambda _: True)

    def _listed(
        self, request: api_pb2.SandboxListRequest, wanted: Callable[[Sandbox], bool]
    ) -> api_pb2.SandboxListResponse:
        tags = {(tag.tag_name, tag.tag_value) for tag in request.tags}
        environment = "" if request.app_id else environment_named(self._state, request.environment_name).name
        found = [
            one
            for one in self._sandboxes.all
            if wanted(one)
            and (one.running or request.include_finished)
            and (one.app_id == request.app_id if request.app_id else self._environment(one) == environment)
            and tags <= set(one.tags.items())
            and (not request.before_timestamp or one.created_at < request.before_timestamp)
        ]
        found.sort(key=lambda one: one.created_at, reverse=True)
        return api_pb2.SandboxListResponse(sandboxes=[_info(one) for one in found])

    def _environment(self, sandbox: Sandbox) -> str:
        """Empty where its app is not even kept any more."""
        app = self._state.apps.get(sandbox.app_id)
        return app.environment if app is not None else ""

    async def SandboxTagsGet(self, request: api_pb2.SandboxTagsGetRequest, _: Caller) -> api_pb2.SandboxTagsGetResponse:
        return api_pb2.SandboxTagsGetResponse(tags=_tags(self._sandboxes.get(request.sandbox_id)))

    SandboxTagsGetV2 = SandboxTagsGet

    async def SandboxTagsSet(self, request: api_pb2.SandboxTagsSetRequest, _: Caller) -> Empty:
        self._sandboxes.get(request.sandbox_id).tags = {tag.tag_name: tag.tag_value for tag in request.tags}
        return Empty()

    SandboxTagsSetV2 = SandboxTagsSet

    async def SandboxSetName(self, request: api_pb2.SandboxSetNameRequest, _: Caller) -> api_pb2.SandboxSetNameResponse:
        check_name("Sandbox", request.name)
        self._sandboxes.rename(self._sandboxes.get(request.sandbox_id), request.name)
        return api_pb2.SandboxSetNameResponse()

    # Its life

    async def SandboxWait(self, request: api_pb2.SandboxWaitRequest, _: Caller) -> api_pb2.SandboxWaitResponse:
        sandbox = self._sandboxes.get(request.sandbox_id)
        try:
            async with self._clock.timeout(request.timeout):
                while sandbox.running and request.timeout:
                    await sandbox.changed.wait()
        except TimeoutError:
            pass
        return made(api_pb2.SandboxWaitResponse, result=sandbox.result, metadata=_metadata(sandbox))

    SandboxWaitV2 = SandboxWait

    async def SandboxTerminate(
        self, request: api_pb2.SandboxTerminateRequest, _: Caller
    ) -> api_pb2.SandboxTerminateResponse:
        sandbox = self._sandboxes.get(request.sandbox_id)
        self._sandboxes.end(sandbox)
        return api_pb2.SandboxTerminateResponse(existing_result=sandbox.result)

    SandboxTerminateV2 = SandboxTerminate

    async def SandboxGetTaskId(
        self, request: api_pb2.SandboxGetTaskIdRequest, _: Caller
    ) -> api_pb2.SandboxGetTaskIdResponse:
        sandbox = self._sandboxes.get(request.sandbox_id)
        if sandbox.running or sandbox.started_at:
            return api_pb2.SandboxGetTaskIdResponse(task_id=sandbox.task_id)
        return api_pb2.SandboxGetTaskIdResponse(task_result=sandbox.result)

    SandboxGetTaskIdV2 = SandboxGetTaskId

    async def SandboxGetTunnels(
        self, request: api_pb2.SandboxGetTunnelsRequest, _: Caller
    ) -> api_pb2.SandboxGetTunnelsResponse:
        sandbox = self._sandboxes.get(request.sandbox_id)
        return api_pb2.SandboxGetTunnelsResponse(
            result=Result(status=Result.GENERIC_STATUS_SUCCESS), tunnels=[tunnel.data for tunnel in sandbox.tunnels]
        )

    SandboxGetTunnelsV2 = SandboxGetTunnels

    async def SandboxWaitUntilReady(
        self, request: api_pb2.SandboxWaitUntilReadyRequest, _: Caller
    ) -> api_pb2.SandboxWaitUntilReadyResponse:
        sandbox = self._sandboxes.get(request.sandbox_id)
        ready_at = await until_ready(sandbox, request.timeout, self._clock)
        return api_pb2.SandboxWaitUntilReadyResponse(ready_at=ready_at)

    # Its streams, for the first kind; the second has them from the router

    async def SandboxStdinWrite(
        self, request: api_pb2.SandboxStdinWriteRequest, _: Caller
    ) -> api_pb2.SandboxStdinWriteResponse:
        sandbox = self._sandboxes.get(request.sandbox_id)
        if request.index > sandbox.stdin_index:
            sandbox.stdin_index = request.index
            with self._sandboxes.in_use(sandbox):
                await write(sandbox.command, request.input, offset=None, eof=request.eof)
        return api_pb2.SandboxStdinWriteResponse()

    async def SandboxGetLogs(
        self, request: api_pb2.SandboxGetLogsRequest, _: Caller
    ) -> AsyncIterator[api_pb2.TaskLogsBatch]:
        command = self._sandboxes.get(request.sandbox_id).command
        descriptor, offset = request.file_descriptor, int(request.last_entry_id or 0)
        stream = command.stderr if descriptor == api_pb2.FILE_DESCRIPTOR_STDERR else command.stdout
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        ends = self._clock.monotonic() + request.timeout
        while True:
            at, data = stream.since(offset)
            offset, over = at + len(data), stream.done and not data
            if text := decoder.decode(data, final=over):
                item = api_pb2.TaskLogs(data=text, file_descriptor=descriptor)
                # Who comes back with it gets the rest of a character that is not whole yet.
                yield api_pb2.TaskLogsBatch(items=[item], entry_id=str(offset - len(decoder.getstate()[0])))
            if over:
                yield api_pb2.TaskLogsBatch(eof=True, entry_id=str(offset))
                return
            if not data and not await self._soon(stream.changed, ends):
                return

    async def _soon(self, changed: Signal, ends: float) -> bool:
        try:
            async with self._clock.timeout(ends - self._clock.monotonic()):
                await changed.wait()
        except TimeoutError:
            return False
        return True

    # The way to its commands, and to those of a function's container

    async def SandboxGetCommandRouterAccess(
        self, request: api_pb2.SandboxGetCommandRouterAccessRequest, _: Caller
    ) -> api_pb2.SandboxGetCommandRouterAccessResponse:
        task_id = self._sandboxes.get(request.sandbox_id).task_id if request.sandbox_id else request.task_id
        url, token = self._router.access(task_id)
        return api_pb2.SandboxGetCommandRouterAccessResponse(url=url, jwt=token)

    async def TaskGetCommandRouterAccess(
        self, request: api_pb2.TaskGetCommandRouterAccessRequest, _: Caller
    ) -> api_pb2.TaskGetCommandRouterAccessResponse:
        url, token = self._router.access(request.task_id)
        return api_pb2.TaskGetCommandRouterAccessResponse(url=url, jwt=token)


def _metadata(sandbox: Sandbox) -> api_pb2.SandboxHandleMetadata:
    return made(api_pb2.SandboxHandleMetadata, result=sandbox.result, app_id=sandbox.app_id)


def _tags(sandbox: Sandbox) -> list[api_pb2.SandboxTag]:
    return [api_pb2.SandboxTag(tag_name=name, tag_value=value) for name, value in sandbox.tags.items()]


def _info(sandbox: Sandbox) -> api_pb2.SandboxInfo:
    return made(
        api_pb2.SandboxInfo,
        id=sandbox.sandbox_id,
        created_at=sandbox.created_at,
        task_info=api_pb2.TaskInfo(
            id=sandbox.task_id,
            enqueued_at=sandbox.created_at,
            started_at=sandbox.started_at,
            finished_at=sandbox.finished_at,
            result=sandbox.result,
        ),
        app_id=sandbox.app_id,
        tags=_tags(sandbox),
        name=sandbox.name,
        image_id=sandbox.definition.image_id,
        timeout_secs=sandbox.definition.timeout_secs,
        idle_timeout_secs=sandbox.definition.idle_timeout_secs,
        ready_at=sandbox.ready_at,
        tunnels=[tunnel.data for tunnel in sandbox.tunnels],
        metadata=_metadata(sandbox),
    )
