"""Functions and classes: created by a deploy, looked up by name, bound to parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grpclib import GRPCError, Status
from modal_proto import api_pb2

from emulator.ids import new_id
from emulator.protocol.definition import check, doubts
from emulator.protocol.dispatch import invalid, not_found
from emulator.protocol.lookup import app_of, function_of
from emulator.protocol.metadata import CLASS_SUFFIX, class_metadata, function_data, handle_metadata
from emulator.protocol.named import environment_named
from emulator.protocol.options import remark, unsupported
from emulator.protocol.pinning import pinned
from emulator.protocol.publishing import staged
from emulator.state import App, ClassRecord, FunctionRecord

if TYPE_CHECKING:
    from collections.abc import Callable

    from emulator.protocol.addresses import Front
    from emulator.protocol.binding import Binder
    from emulator.protocol.dispatch import Caller
    from emulator.scheduler.scheduler import Scheduler
    from emulator.state import State


HOST = "127.0.0.1"
"""Where a Server's container listens: in its own network, or on this machine."""


class FunctionHandlers:
    def __init__(
        self, state: State, scheduler: Scheduler, front: Front, binder: Binder, say: Callable[[str], None]
    ) -> None:
        self._state = state
        self._binder = binder
        self._scheduler = scheduler
        self._front = front
        self._say = say

    async def FunctionPrecreate(
        self, request: api_pb2.FunctionPrecreateRequest, _: Caller
    ) -> api_pb2.FunctionPrecreateResponse:
        app = self._app(request.app_id)
        record = self._record(app, request.existing_function_id, request.function_name)
        definition = api_pb2.Function(
            function_name=request.function_name,
            function_type=request.function_type,
            webhook_config=request.webhook_config,
            method_definitions=request.method_definitions,
            function_schema=request.function_schema,
            supported_input_formats=request.supported_input_formats,
            supported_output_formats=request.supported_output_formats,
        )
        record.staged = await staged(self._front, app, record, definition, record.data)
        return api_pb2.FunctionPrecreateResponse(
            function_id=record.function_id, handle_metadata=handle_metadata(record, record.staged)
        )

    async def FunctionCreate(self, request: api_pb2.FunctionCreateRequest, _: Caller) -> api_pb2.FunctionCreateResponse:
        app = self._app(request.app_id)
        ranked = request.function_data.ranked_functions
        definition = ranked[0].function if ranked else request.function
        if not definition.function_name:
            raise invalid("A function without a name")
        for each in [candidate.function for candidate in ranked] or [definition]:
            check(each)
        record = self._record(app, request.existing_function_id, definition.function_name)
        if record.version and record.definition.is_server != definition.is_server:
            # What was a function is now a Server, or the other way round: nothing of the old one goes on.
            record = self._record(app, "", definition.function_name)
        record.staged = await staged(self._front, app, record, definition, request.function_data)
        notes = [*unsupported(definition), *doubts(definition)]
        if line := remark(definition):
            self._say(f"{record.tag}: {line}")
        return api_pb2.FunctionCreateResponse(
            function_id=record.function_id,
            function=record.staged.definition,
            handle_metadata=handle_metadata(record, record.staged),
            function_data=function_data(record, record.staged),
            server_warnings=[
                api_pb2.Warning(
                    type=api_pb2.Warning.WARNING_TYPE_FUNCTION_CONFIGURATION, message=f"{record.tag}: {note}"
                )
                for note in notes
            ],
        )

    def _app(self, app_id: str) -> App:
        app = app_of(self._state, app_id)
        if not app.live:
            raise GRPCError(Status.FAILED_PRECONDITION, f"App {app_id} is stopped")
        return app

    def _record(self, app: App, existing_id: str, tag: str) -> FunctionRecord:
        record = self._state.functions.get(existing_id)
        if record is None or record.app_id != app.app_id:
            record = FunctionRecord(new_id("fu"), app.app_id, tag)
            self._state.functions[record.function_id] = record
        return record

    async def ClassCreate(self, request: api_pb2.ClassCreateRequest, _: Caller) -> api_pb2.ClassCreateResponse:
        app = self._app(request.app_id)
        found = self._state.classes.get(request.existing_class_id)
        if found is None:
            found = ClassRecord(new_id("cs"), app.app_id)
            self._state.classes[found.class_id] = found
        return api_pb2.ClassCreateResponse(class_id=found.class_id, handle_metadata=api_pb2.ClassHandleMetadata())

    async def FunctionGet(self, request: api_pb2.FunctionGetRequest, _: Caller) -> api_pb2.FunctionGetResponse:
        app = self._deployed(request.app_name, request.environment_name)
        if version := getattr(request, "app_version", 0):
            record = pinned(self._state, self._scheduler, app, version, request.object_tag)
        elif (function_id := app.function_ids.get(request.object_tag)) is not None:
            record = self._state.functions[function_id]
        else:
            raise self._no_function(app, request.object_tag)
        return api_pb2.FunctionGetResponse(
            function_id=record.function_id, handle_metadata=handle_metadata(record), function=function_data(record)
        )

    @staticmethod
    def _no_function(app: App, tag: str) -> GRPCError:
        details = []
        if tag + CLASS_SUFFIX in app.function_ids and hasattr(api_pb2, "FunctionLookupError"):
            reason = api_pb2.FunctionLookupError.REASON_CLASS_NAME_USED
            details.append(api_pb2.FunctionLookupError(reason=reason))
        return GRPCError(Status.NOT_FOUND, f"App '{app.name}' has no function '{tag}'", details)

    async def FunctionGetById(
        self, request: api_pb2.FunctionGetByIdRequest, _: Caller
    ) -> api_pb2.FunctionGetByIdResponse:
        record = self.function(request.function_id)
        return api_pb2.FunctionGetByIdResponse(function=function_data(record), handle_metadata=handle_metadata(record))

    async def ClassGet(self, request: api_pb2.ClassGetRequest, _: Caller) -> api_pb2.ClassGetResponse:
        app = self._deployed(request.app_name, request.environment_name)
        class_id = app.class_ids.get(request.object_tag)
        service_id = app.function_ids.get(request.object_tag + CLASS_SUFFIX)
        if class_id is None or service_id is None:
            raise not_found(f"App '{app.name}' has no class '{request.object_tag}'")
        return api_pb2.ClassGetResponse(
            class_id=class_id, handle_metadata=class_metadata(self._state.functions[service_id])
        )

    def _deployed(self, name: str, environment: str) -> App:
        where = environment_named(self._state, environment).name
        app = self._state.deployed(name, where)
        if app is None:
            raise not_found(f"App '{name}' not found in environment '{where}'")
        return app

    def function(self, function_id: str) -> FunctionRecord:
        return function_of(self._state, function_id)

    async def FunctionBindParams(
        self, request: api_pb2.FunctionBindParamsRequest, _: Caller
    ) -> api_pb2.FunctionBindParamsResponse:
        base = self.function(request.function_id)
        bound = self._binder.bind(base, request.serialized_params, request.function_options)
        return api_pb2.FunctionBindParamsResponse(
            bound_function_id=bound.function_id, handle_metadata=handle_metadata(bound)
        )

    async def FlashContainerList(
        self, request: api_pb2.FlashContainerListRequest, _: Caller
    ) -> api_pb2.FlashContainerListResponse:
        record = self.function(request.function_id)
        pool = self._scheduler.server_pool(record.function_id)
        port = record.definition.http_config.port
        containers = [
            api_pb2.FlashContainerListResponse.Container(task_id=slot.task_id, host=HOST, port=port)
            for slot in (pool.targets() if pool is not None else ())
        ]
        return api_pb2.FlashContainerListResponse(containers=containers)
