"""The autoscaler as clients see it: settings read and overridden, and what a function's containers do now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modal_proto import api_pb2

from emulator.protocol.dispatch import invalid
from emulator.protocol.lookup import function_of
from emulator.scheduler.server_pool import ServerPool
from emulator.scheduler.settings import default_settings, effective_settings, refusal, static_settings

if TYPE_CHECKING:
    from emulator.protocol.dispatch import Caller
    from emulator.scheduler.pool import Pool
    from emulator.scheduler.scheduler import Scheduler
    from emulator.state import State


class AutoscalerHandlers:
    def __init__(self, state: State, scheduler: Scheduler) -> None:
        self._state = state
        self._scheduler = scheduler

    async def FunctionUpdateSchedulingParams(
        self, request: api_pb2.FunctionUpdateSchedulingParamsRequest, _: Caller
    ) -> api_pb2.FunctionUpdateSchedulingParamsResponse:
        record = function_of(self._state, request.function_id)
        overrides = api_pb2.AutoscalerSettings()
        overrides.CopyFrom(record.overrides)
        overrides.MergeFrom(request.settings)
        if not request.HasField("settings"):  # as clients asked before there were settings
            overrides.min_containers = request.warm_pool_size_override
        settings = effective_settings(record.definition, overrides)
        if why := refusal(settings):
            raise invalid(why)
        record.overrides.CopyFrom(overrides)
        if (pool := self._scheduler.pool(record.function_id)) is not None:
            pool.touch()
        return api_pb2.FunctionUpdateSchedulingParamsResponse(current_settings=settings)

    async def FunctionGetSchedulingParams(
        self, request: api_pb2.FunctionGetSchedulingParamsRequest, _: Caller
    ) -> api_pb2.FunctionGetSchedulingParamsResponse:
        record = function_of(self._state, request.function_id)
        return api_pb2.FunctionGetSchedulingParamsResponse(
            autoscaler_configuration=api_pb2.AutoscalerConfiguration(
                settings=effective_settings(record.definition, record.overrides),
                default_settings=default_settings(),
                static_settings=static_settings(record.definition),
                override_settings=record.overrides,
            )
        )

    async def FunctionGetCurrentStats(
        self, request: api_pb2.FunctionGetCurrentStatsRequest, _: Caller
    ) -> api_pb2.FunctionStats:
        pool = self._scheduler.pool(function_of(self._state, request.function_id).function_id)
        return api_pb2.FunctionStats() if pool is None else _stats(pool)


def _stats(pool: Pool) -> api_pb2.FunctionStats:
    """Containers that leave count for their inputs alone: they take nothing new."""
    return api_pb2.FunctionStats(
        backlog=int(pool.demanded) if isinstance(pool, ServerPool) else pool.work.pending,
        num_total_tasks=sum(slot.state != "draining" and not slot.doomed for slot in pool.slots.values()),
        num_running_inputs=sum(slot.active for slot in pool.slots.values()),
        input_headroom=pool.headroom,
    )
