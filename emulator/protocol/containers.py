"""What containers ask for and report. Which container it is, its own socket says."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from google.protobuf.empty_pb2 import Empty
from grpclib import GRPCError, Status
from modal_proto import api_pb2

from emulator.protocol.dispatch import Handover, failed_precondition, not_found
from emulator.scheduler.server_pool import ServerPool
from emulator.scheduler.streams import READER_AWAITED, StreamLost

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from emulator.clock import Clock
    from emulator.protocol.dispatch import Caller
    from emulator.sandboxes.sandboxes import Sandboxes
    from emulator.scheduler.calls import Call, Calls
    from emulator.scheduler.pool import Pool
    from emulator.scheduler.scheduler import Scheduler
    from emulator.scheduler.slot import Slot
    from emulator.scheduler.streams import DataStream

HEARTBEAT_HOLD = 14.5
"""Seconds that a heartbeat is held, so that a cancellation reaches the container at once: it sends one every 15."""


class ContainerHandlers:
    def __init__(self, calls: Calls, scheduler: Scheduler, sandboxes: Sandboxes, clock: Clock) -> None:
        self._calls = calls
        self._sandboxes = sandboxes
        self._scheduler = scheduler
        self._outside = clock.outside

    def _place(self, caller: Caller) -> tuple[Pool, Slot]:
        place = self._scheduler.find(caller.task_id) if caller.task_id else None
        if place is None:
            raise GRPCError(Status.FAILED_PRECONDITION, "Only a running container may call this")
        return place

    async def ContainerHello(self, _request: Empty, caller: Caller) -> Empty:
        self._place(caller)
        return Empty()

    async def ContainerHeartbeat(
        self, _request: api_pb2.ContainerHeartbeatRequest, caller: Caller
    ) -> api_pb2.ContainerHeartbeatResponse:
        _, slot = self._place(caller)
        slot.repeat_cancellations()
        try:
            async with self._outside.timeout(HEARTBEAT_HOLD):
                while not slot.cancellations and slot.alive:
                    await slot.changed.wait()
        except TimeoutError:
            return api_pb2.ContainerHeartbeatResponse()
        event = api_pb2.CancelInputEvent(input_ids=slot.take_cancellations())
        return api_pb2.ContainerHeartbeatResponse(cancel_input_event=event)

    async def FunctionGetInputs(
        self, request: api_pb2.FunctionGetInputsRequest, caller: Caller
    ) -> api_pb2.FunctionGetInputsResponse | Handover:
        pool, slot = self._place(caller)
        taken = await pool.next_inputs(slot, batch=request.batch_max_size, linger=request.batch_linger_ms / 1000)
        if taken is None:
            return api_pb2.FunctionGetInputsResponse(inputs=[api_pb2.FunctionGetInputsItem(kill_switch=True)])
        response = api_pb2.FunctionGetInputsResponse(
            inputs=[
                api_pb2.FunctionGetInputsItem(
                    input_id=item.input_id,
                    input=item.payload,
                    function_call_id=item.call.call_id,
                    function_call_invocation_type=item.call.invocation,
                    retry_count=item.retry_count,
                )
                for item in taken
            ]
        )
        return Handover(response, partial(self._not_delivered, caller, [item.input_id for item in taken]))

    def _not_delivered(self, caller: Caller, input_ids: list[str]) -> None:
        if (place := self._scheduler.find(caller.task_id)) is not None:
            pool, slot = place
            pool.not_delivered(slot, input_ids)

    async def FunctionPutOutputs(self, request: api_pb2.FunctionPutOutputsRequest, caller: Caller) -> Empty:
        pool, slot = self._place(caller)
        if slot.container is not None:
            slot.container.read_output()  # it is of these inputs still
        for output in request.outputs:
            pool.work.complete(slot, output)
        return Empty()

    async def FunctionGetDynamicConcurrency(
        self, request: api_pb2.FunctionGetDynamicConcurrencyRequest, caller: Caller
    ) -> api_pb2.FunctionGetDynamicConcurrencyResponse:
        pool, _ = self._place(caller)
        # Beyond its target a container goes only while there is more than all of them can take.
        burst = pool.work.pending > 0
        concurrency = request.max_concurrency if burst else request.target_concurrency
        return api_pb2.FunctionGetDynamicConcurrencyResponse(concurrency=concurrency)

    async def FunctionCallGetDataIn(
        self, request: api_pb2.FunctionCallGetDataRequest, caller: Caller
    ) -> AsyncIterator[api_pb2.DataChunk]:
        _, slot = self._place(caller)
        try:
            async for chunk in self._call(slot, request.function_call_id).data_in.read(request.last_index):
                yield chunk
        except StreamLost as error:
            raise GRPCError(Status.DATA_LOSS, str(error)) from error

    async def FunctionCallPutDataOut(self, request: api_pb2.FunctionCallPutDataRequest, caller: Caller) -> Empty:
        _, slot = self._place(caller)
        # An attempt that was given up may still be writing: only the one that counts is heard.
        for attempt in slot.attempts.values():
            if attempt.item.call.call_id == request.function_call_id and not attempt.settled:
                stream = attempt.item.call.data_out
                if attempt.item.call.web:
                    await stream.put(request.data_chunks)
                else:
                    await self._put_for_caller(stream, request.data_chunks)
                if seconds := stream.pacing.hold(self._outside.monotonic()):
                    await self._outside.sleep(seconds)
                break
        return Empty()

    async def _put_for_caller(self, stream: DataStream, chunks: Sequence[api_pb2.DataChunk]) -> None:
        """Write, and wait for the caller to read. On Modal a generator runs to its end also when he is gone."""
        was_left = False
        while True:
            try:
                async with self._outside.timeout(READER_AWAITED):
                    await stream.put(chunks)  # which what it has already does no harm to
                return
            except TimeoutError:
                if stream.left and was_left:
                    stream.abandon()
                was_left = stream.left

    def _call(self, slot: Slot, call_id: str) -> Call:
        # What the container works on first: a web request may have been forgotten, which must not look like an error.
        held = (attempt.item.call for attempt in slot.attempts.values() if attempt.item.call.call_id == call_id)
        call = next(held, None) or self._calls.get(call_id)
        if call is None:
            raise not_found(f"No FunctionCall with ID {call_id}")
        return call

    async def ContainerServerLifecycleReady(
        self, _request: api_pb2.ContainerServerLifecycleReadyRequest, caller: Caller
    ) -> Empty:
        pool, slot = self._place(caller)
        if not isinstance(pool, ServerPool):
            raise GRPCError(Status.FAILED_PRECONDITION, "Only a Server's container may call this")
        pool.serving(slot)
        return Empty()

    async def TaskResult(self, request: api_pb2.TaskResultRequest, caller: Caller) -> Empty:
        pool, slot = self._place(caller)
        pool.boot_failed(slot, request.result)
        return Empty()

    async def ContainerStop(self, request: api_pb2.ContainerStopRequest, _: Caller) -> api_pb2.ContainerStopResponse:
        if (sandbox := self._sandboxes.of_task(request.task_id)) is not None:
            if request.graceful:
                raise failed_precondition("Only a Function's container can be stopped gracefully")
            self._sandboxes.end(sandbox)
            return api_pb2.ContainerStopResponse()
        place = self._scheduler.find(request.task_id)
        if place is None:
            raise not_found(f"No running container with ID {request.task_id}")
        pool, slot = place
        if request.graceful or isinstance(pool, ServerPool):
            pool.stop(slot)
        else:
            pool.interrupt(slot)
        return api_pb2.ContainerStopResponse()
