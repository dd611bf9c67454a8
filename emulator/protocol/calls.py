"""Calls as the caller sees them: inputs in, outputs and streams out, cancellation."""

from __future__ import annotations

from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING

from google.protobuf.empty_pb2 import Empty
from grpclib import GRPCError, Status
from modal_proto import api_pb2

from emulator.faults.streams import broken_off
from emulator.protocol.dispatch import invalid, not_found
from emulator.protocol.lookup import function_of
from emulator.protocol.metadata import CLASS_SUFFIX
from emulator.scheduler.streams import StreamLost
from emulator.scheduler.summary import call_graph, summary

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from emulator.faults.plans import Plans
    from emulator.protocol.dispatch import Caller
    from emulator.scheduler.calls import Call, Calls, Input
    from emulator.scheduler.scheduler import Scheduler
    from emulator.state import State

MAX_INPUTS_OUTSTANDING = 1000


class CallHandlers:
    def __init__(self, state: State, calls: Calls, scheduler: Scheduler, plans: Plans) -> None:
        self._state = state
        self._calls = calls
        self._scheduler = scheduler
        self._plans = plans

    async def FunctionMap(self, request: api_pb2.FunctionMapRequest, _: Caller) -> api_pb2.FunctionMapResponse:
        record = function_of(self._state, request.function_id)
        if record.definition.is_server:
            raise invalid(f"{record.tag} is a Server: it takes HTTP requests, not calls")
        call = self._calls.create(
            record.function_id,
            kind=request.function_call_type,
            invocation=request.function_call_invocation_type,
            parent_input_id=request.parent_input_id,
        )
        # Retries stay on the server, whose clock a test may turn: the client is told that it has nothing to retry.
        return api_pb2.FunctionMapResponse(
            function_call_id=call.call_id,
            function_call_jwt=call.call_id,
            pipelined_inputs=self._put(call, request.pipelined_inputs),
            retry_policy=record.definition.retry_policy,
            sync_client_retries_enabled=False,
            max_inputs_outstanding=MAX_INPUTS_OUTSTANDING,
        )

    def _put(
        self, call: Call, items: Iterable[api_pb2.FunctionPutInputsItem]
    ) -> list[api_pb2.FunctionPutInputsResponseItem]:
        put = []
        for item in items:
            if call.cancelled:
                raise GRPCError(Status.FAILED_PRECONDITION, f"Call {call.call_id} was cancelled")
            known = call.inputs.get(item.idx)  # the client repeats a request that it saw no answer to
            placed = known or self._scheduler.submit(call, item.input, item.idx)
            # The client sends the tokens of all that it waits for with each request, and looks into none: short ones.
            put.append(
                api_pb2.FunctionPutInputsResponseItem(idx=item.idx, input_id=placed.input_id, input_jwt=str(item.idx))
            )
        return put

    async def FunctionPutInputs(
        self, request: api_pb2.FunctionPutInputsRequest, _: Caller
    ) -> api_pb2.FunctionPutInputsResponse:
        return api_pb2.FunctionPutInputsResponse(inputs=self._put(self._get(request.function_call_id), request.inputs))

    async def FunctionFinishInputs(self, request: api_pb2.FunctionFinishInputsRequest, _: Caller) -> Empty:
        self._get(request.function_call_id)
        return Empty()

    async def FunctionGetOutputs(
        self, request: api_pb2.FunctionGetOutputsRequest, caller: Caller
    ) -> api_pb2.FunctionGetOutputsResponse:
        call = self._calls.get(request.function_call_id)
        if call is None and self._calls.expired(request.function_call_id) is not None:
            return await self._calls.no_outputs(request)
        holding = self._scheduler.holding(caller.task_id)
        return await self._calls.outputs(call or self._get(request.function_call_id), request, holding=holding)

    async def FunctionCallFromId(
        self, request: api_pb2.FunctionCallFromIdRequest, _: Caller
    ) -> api_pb2.FunctionCallFromIdResponse:
        function_id, info = self._told(request.function_call_id)
        record = self._state.functions.get(function_id)
        return api_pb2.FunctionCallFromIdResponse(
            function_call_id=info.function_call_id,
            num_inputs=info.total_inputs,
            metadata=api_pb2.FunctionCallHandleMetadata(
                app_id=record.app_id if record else "", function_id=function_id
            ),
        )

    async def FunctionCallGetInfo(
        self, request: api_pb2.FunctionCallGetInfoRequest, _: Caller
    ) -> api_pb2.FunctionCallGetInfoResponse:
        _function_id, info = self._told(request.function_call_id)
        return api_pb2.FunctionCallGetInfoResponse(info=info)

    def _told(self, call_id: str) -> tuple[str, api_pb2.FunctionCallInfo]:
        """A call's function and state; those of one that has expired as they were when it did."""
        if (call := self._calls.get(call_id)) is None and (gone := self._calls.expired(call_id)) is not None:
            return gone.function_id, api_pb2.FunctionCallInfo.FromString(gone.info)
        call = call or self._get(call_id)
        return call.function_id, summary(call)

    async def FunctionGetCallGraph(
        self, request: api_pb2.FunctionGetCallGraphRequest, _: Caller
    ) -> api_pb2.FunctionGetCallGraphResponse:
        return call_graph(self._calls, self._get(request.function_call_id), self._names)

    def _names(self, call: Call, item: Input) -> tuple[str, str]:
        record = self._state.functions.get(call.function_id)
        if record is None:
            return "", ""
        method = item.payload.method_name
        owner = record.tag.removesuffix(CLASS_SUFFIX)
        return (f"{owner}.{method}" if method else owner), record.definition.module_name

    async def FunctionCallCancel(self, request: api_pb2.FunctionCallCancelRequest, _: Caller) -> Empty:
        call = self._calls.get(request.function_call_id)
        if call is None and self._calls.expired(request.function_call_id) is not None:
            return Empty()  # there is nothing left to cancel
        self._scheduler.cancel(call or self._get(request.function_call_id), terminate=request.terminate_containers)
        return Empty()

    async def FunctionCallGetDataOut(
        self, request: api_pb2.FunctionCallGetDataRequest, caller: Caller
    ) -> AsyncIterator[Sequence[api_pb2.DataChunk]]:
        call = self._get(request.function_call_id)
        holding = partial(self._scheduler.holding, caller.task_id)
        stream = call.data_out
        record = self._state.functions.get(call.function_id)
        fault = self._plans.generator(record) if record is not None else None
        try:
            async with aclosing(stream.batches(request.last_index, holding=holding)) as batches:
                async for batch in broken_off(batches, fault):
                    yield batch
        except StreamLost as error:
            raise GRPCError(Status.DATA_LOSS, str(error)) from error

    def _get(self, call_id: str) -> Call:
        call = self._calls.get(call_id)
        if call is None:
            raise not_found(f"No FunctionCall with ID {call_id}")
        return call
