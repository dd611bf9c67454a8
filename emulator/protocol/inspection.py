"""What is asked about apps, functions and containers for its own sake: info, tags, variants, names that are meant."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from google.protobuf.empty_pb2 import Empty
from modal_proto import api_pb2

from emulator.protocol.dispatch import not_found
from emulator.protocol.lookup import app_of, function_of
from emulator.protocol.metadata import app_metadata
from emulator.protocol.named import environment_named

if TYPE_CHECKING:
    from collections.abc import Iterator

    from emulator.protocol.dispatch import Caller
    from emulator.scheduler.history import History
    from emulator.scheduler.scheduler import Scheduler
    from emulator.state import FunctionRecord, State

SIMILAR = 0.75
"""How much alike two names are, of 1, for one to be suggested for the other."""


class InspectionHandlers:
    def __init__(self, state: State, scheduler: Scheduler, history: History) -> None:
        self._state = state
        self._scheduler = scheduler
        self._history = history

    async def AppGetInfo(self, request: api_pb2.AppGetInfoRequest, _: Caller) -> api_pb2.AppGetInfoResponse:
        app = app_of(self._state, request.app_id)
        response = api_pb2.AppGetInfoResponse(info=app_metadata(self._state, app))
        for function_id in app.function_ids.values():
            response.function_info_summaries[function_id].CopyFrom(_summary(self._state.functions[function_id]))
        return response

    async def AppSetTags(self, request: api_pb2.AppSetTagsRequest, _: Caller) -> Empty:
        app_of(self._state, request.app_id).tags = dict(request.tags)
        return Empty()

    async def AppGetTags(self, request: api_pb2.AppGetTagsRequest, _: Caller) -> api_pb2.AppGetTagsResponse:
        return api_pb2.AppGetTagsResponse(tags=app_of(self._state, request.app_id).tags)

    async def TaskGetInfo(self, request: api_pb2.TaskGetInfoRequest, _: Caller) -> api_pb2.TaskGetInfoResponse:
        task = self._history.task(request.task_id)
        if task is None:
            raise not_found(f"No container with ID {request.task_id}")
        return api_pb2.TaskGetInfoResponse(
            app_id=task.app_id,
            info=api_pb2.TaskInfo(
                id=task.task_id,
                enqueued_at=task.enqueued_at,
                started_at=task.started_at,
                finished_at=task.finished_at,
            ),
        )

    async def FunctionListVariants(
        self, request: api_pb2.FunctionListVariantsRequest, _: Caller
    ) -> api_pb2.FunctionListVariantsResponse:
        function_of(self._state, request.function_id)
        running = {pool.record.function_id: len(pool.slots) for pool in self._scheduler.pools}
        variants = [r for r in self._state.functions.values() if r.base_function_id == request.function_id]
        variants.sort(key=lambda record: running.get(record.function_id, 0), reverse=True)
        return api_pb2.FunctionListVariantsResponse(
            infos=[_variant(record) for record in variants[: request.limit or None]], ordered_by_task_count=True
        )

    async def ObjectSuggest(self, request: api_pb2.ObjectSuggestRequest, _: Caller) -> api_pb2.ObjectSuggestResponse:
        environment = environment_named(self._state, request.environment_name).name
        names = dict(self._names(request.kind, environment))
        alike = difflib.get_close_matches(request.query, names, n=request.limit or 1, cutoff=SIMILAR)
        return api_pb2.ObjectSuggestResponse(
            suggestions=[
                api_pb2.ObjectSuggestion(app_name=names[name][0], object_name=names[name][1]) for name in alike
            ]
        )

    def _names(self, kind: int, environment: str) -> Iterator[tuple[str, tuple[str, str]]]:
        """What can be asked for, as it is asked for, with its app (for what is in one) and its own name."""
        kinds = api_pb2.ObjectSuggestRequest
        for app in self._state.apps.values():
            if app.environment != environment or app.state != api_pb2.APP_STATE_DEPLOYED:
                continue
            if kind == kinds.OBJECT_SUGGEST_KIND_APP:
                yield app.name, ("", app.name)
                continue
            for tag, function_id in app.function_ids.items():
                is_server = self._state.functions[function_id].definition.is_server
                if is_server == (kind == kinds.OBJECT_SUGGEST_KIND_SERVER):
                    yield f"{app.name}/{tag}", (app.name, tag)


def _summary(record: FunctionRecord) -> api_pb2.AppGetInfoResponse.FunctionInfoSummary:
    definition = record.definition
    webhooks = [definition.webhook_config, *(m.webhook_config for m in definition.method_definitions.values())]
    web = [webhook for webhook in webhooks if webhook.type != api_pb2.WEBHOOK_TYPE_UNSPECIFIED]
    summary = api_pb2.AppGetInfoResponse.FunctionInfoSummary(
        web_function=bool(web), is_sessioned=definition.is_sessioned
    )
    if definition.resources.gpu_config.count:
        summary.gpu_config.add().CopyFrom(definition.resources.gpu_config)
    if definition.HasField("schedule"):
        summary.schedule.CopyFrom(definition.schedule)
    if web:
        summary.requires_proxy_auth = all(webhook.requires_proxy_auth for webhook in web)
    elif definition.is_server:
        summary.requires_proxy_auth = not definition.http_config.unauthenticated
    return summary


def _variant(record: FunctionRecord) -> api_pb2.FunctionVariantInfo:
    info = api_pb2.FunctionVariantInfo(function_id=record.function_id, serialized_params=record.serialized_params)
    if record.options.ByteSize():
        info.function_options.CopyFrom(record.options)
    return info
