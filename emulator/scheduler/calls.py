"""Function calls: their inputs, their outputs and their streams. Knows nothing of containers."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from modal_proto import api_pb2

from emulator.ids import new_id
from emulator.scheduler.retention import Expired, Retention
from emulator.scheduler.streams import DataStream
from emulator.scheduler.summary import summary
from emulator.signals import Signal

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from contextlib import AbstractContextManager

    from emulator.clock import Clock
    from emulator.scheduler.retention import Kind

GATHER_SECONDS = 0.02
"""Between two answers to a `.map` that goes on: outputs that come meanwhile go out together.

The client asks anew after each answer, with the name of every input that it waits for: an answer for each output would
cost both sides more than the inputs themselves.
"""

Status = api_pb2.GenericResult


@dataclass(eq=False)
class Input:
    """One input of a call: what a container works on."""

    input_id: str
    call: Call
    idx: int
    payload: api_pb2.FunctionInput
    enqueued_at: float = 0.0
    """Seconds since the epoch."""
    retry_count: int = 0
    """Counts every new attempt; the runtime tells attempts apart by it."""
    retries: int = 0
    """Attempts that the function's retry policy paid for."""
    losses: int = 0
    """Attempts that were lost with their container."""
    task_id: str = ""
    """The container that works on it now."""
    started_at: float = 0.0
    done: bool = False


@dataclass(eq=False)
class Call:
    """One `.remote`, `.spawn`, `.map` or web request."""

    call_id: str
    function_id: str
    kind: api_pb2.FunctionCallType.ValueType
    invocation: api_pb2.FunctionCallInvocationType.ValueType
    parent_input_id: str = ""
    web: bool = False
    created_at: float = 0.0
    unfinished: int = 0
    """Inputs without an outcome."""
    output_bytes: int = 0
    blobs: list[str] = field(default_factory=list)
    """Ids of what was too large for the messages of its inputs and outputs."""
    blob_bytes: int = 0
    """On disk."""
    inputs: dict[int, Input] = field(default_factory=dict)
    outputs: dict[int, api_pb2.FunctionGetOutputsItem] = field(default_factory=dict)
    order: list[int] = field(default_factory=list)
    """Indices in the order in which outputs came; entry ids count along it."""
    cancelled: bool = False
    forgotten: bool = False
    """Nobody will write to its streams; a container may still hold it."""
    answered_at: float = float("-inf")
    """When outputs were last handed out, on the clock's own scale for what is outside."""
    changed: Signal = field(default_factory=Signal)

    @cached_property
    def data_in(self) -> DataStream:
        return self._stream()

    @cached_property
    def data_out(self) -> DataStream:
        return self._stream()

    def _stream(self) -> DataStream:
        stream = DataStream(expects_reader=self.web)
        if self.forgotten:
            stream.close()
        return stream

    @property
    def streams(self) -> list[DataStream]:
        """Those that anybody has used: most calls have none."""
        return [self.__dict__[name] for name in ("data_in", "data_out") if name in self.__dict__]

    @property
    def weight(self) -> int:
        """Bytes of memory that it takes to keep it, about."""
        return self.output_bytes + sum(stream.size for stream in self.streams)


class Calls:
    """Every call that is known, by id."""

    def __init__(
        self,
        clock: Clock,
        *,
        discard_blob: Callable[[str], None] = lambda _: None,
        blob_size: Callable[[str], int] = lambda _: 0,
        done: Callable[[Input, api_pb2.FunctionGetOutputsItem, float], None] = lambda *_: None,
    ) -> None:
        self._clock = clock
        self._discard_blob = discard_blob
        self._blob_size = blob_size
        self._done = done
        self._calls: dict[str, Call] = {}
        self._inputs: dict[str, Input] = {}
        self._children: dict[str, dict[str, Call]] = {}
        """By the input whose code made them."""
        self._retention = Retention(clock, self._let_go)
        self.handing_out = 0
        """Requests for outputs that have some and are about to be answered."""

    def create(
        self,
        function_id: str,
        *,
        kind: api_pb2.FunctionCallType.ValueType = api_pb2.FUNCTION_CALL_TYPE_UNARY,
        invocation: api_pb2.FunctionCallInvocationType.ValueType = api_pb2.FUNCTION_CALL_INVOCATION_TYPE_SYNC,
        parent_input_id: str = "",
        web: bool = False,
    ) -> Call:
        call = Call(
            new_id("fc"), function_id, kind, invocation, parent_input_id, web=web, created_at=self._clock.time()
        )
        self._calls[call.call_id] = call
        if parent_input_id:
            self._children.setdefault(parent_input_id, {})[call.call_id] = call
        return call

    def add_input(self, call: Call, payload: api_pb2.FunctionInput, idx: int) -> Input:
        item = Input(new_id("in"), call, idx, payload, enqueued_at=self._clock.time())
        if call.inputs and not call.unfinished:
            self._retention.goes_on(call.call_id)
        call.inputs[idx] = item
        call.unfinished += 1
        self._inputs[item.input_id] = item
        if payload.args_blob_id:
            self._note_blob(call, payload.args_blob_id)
        return item

    def _note_blob(self, call: Call, blob_id: str) -> None:
        call.blobs.append(blob_id)
        call.blob_bytes += self._blob_size(blob_id)

    def get(self, call_id: str) -> Call | None:
        """A call whose results can still be had."""
        if self._retention.outlived(call_id):
            self.forget(call_id)
        return self._calls.get(call_id)

    def expired(self, call_id: str) -> Expired | None:
        """What is left of a call that was there and is not any more."""
        return self._retention.expired(call_id)

    def input(self, input_id: str) -> Input | None:
        return self._inputs.get(input_id)

    def unfinished(self, function_ids: Collection[str]) -> list[Input]:
        """Inputs of these functions that have no outcome yet."""
        calls = [call for call in self._calls.values() if call.unfinished and call.function_id in function_ids]
        return [item for call in calls for item in call.inputs.values() if not item.done]

    def children(self, input_id: str) -> list[Call]:
        """Calls that the code working on that input has made."""
        return list(self._children.get(input_id, {}).values())

    def finish(self, item: Input, output: api_pb2.FunctionGetOutputsItem) -> None:
        """Record an input's final output and wake whoever waits for it."""
        if item.done:
            return
        item.done = True
        self._done(item, output, self._clock.time())
        item.task_id = ""
        # Nobody works on it any more; the name is for who looks at it.
        item.payload = api_pb2.FunctionInput(method_name=item.payload.method_name)
        output.idx, output.input_id = item.idx, item.input_id
        # For the client, which in a map takes no other output than that of the attempt that it has asked for itself:
        # it knows nothing of those that are made here.
        output.retry_count = 0
        call = item.call
        call.outputs[item.idx] = output
        call.order.append(item.idx)
        call.unfinished -= 1
        call.output_bytes += output.ByteSize()
        if output.result.data_blob_id:
            self._note_blob(call, output.result.data_blob_id)
        call.changed.notify()
        if call.web:
            call.data_out.close()
        if not call.unfinished and call.call_id in self._calls:
            spawned = call.invocation == api_pb2.FUNCTION_CALL_INVOCATION_TYPE_ASYNC
            self._keep(call, "spawned" if spawned else "unclaimed")

    async def outputs(
        self,
        call: Call,
        request: api_pb2.FunctionGetOutputsRequest,
        *,
        holding: AbstractContextManager[None] | None = None,
    ) -> api_pb2.FunctionGetOutputsResponse:
        """Outputs by index range, or those after an entry id; waits up to the request's timeout for the first.

        `holding` is entered while it waits.
        """
        self._retention.used(call.call_id)
        if not (found := _select(call, request)) and request.timeout > 0:
            try:
                async with self._clock.outside.timeout(request.timeout):
                    with holding or nullcontext():
                        while not (found := _select(call, request)):
                            await call.changed.wait()
            except TimeoutError:
                found = _select(call, request)
        if found and (pause := self._pause(call, request)) > 0:
            self.handing_out += 1
            try:
                await self._clock.outside.sleep(pause)
            finally:
                self.handing_out -= 1
            found = _select(call, request)
        call.answered_at = self._clock.outside.monotonic()
        response = api_pb2.FunctionGetOutputsResponse(
            outputs=[call.outputs[idx] for idx in found],
            idxs=found,
            last_entry_id=f"{_position(request) + len(found)}-0",
            num_unfinished_inputs=call.unfinished,
        )
        if request.clear_on_success and not call.unfinished:
            self.taken(call)
        return response

    async def no_outputs(self, request: api_pb2.FunctionGetOutputsRequest) -> api_pb2.FunctionGetOutputsResponse:
        """The answer about a call that has expired: nothing there, nothing to come, the client's `OutputExpiredError`.

        It takes as long as the client has patience for, because until then the client asks again at once.
        """
        await self._clock.outside.sleep(max(0.0, request.timeout))
        return api_pb2.FunctionGetOutputsResponse(last_entry_id=request.last_entry_id or "0-0")

    def _pause(self, call: Call, request: api_pb2.FunctionGetOutputsRequest) -> float:
        """Seconds to wait for more outputs: none for the first, for the last, or for who asks for certain ones."""
        if not call.unfinished or request.HasField("start_idx") or request.timeout <= 0:
            return 0.0
        return call.answered_at + GATHER_SECONDS - self._clock.outside.monotonic()

    def taken(self, call: Call) -> None:
        """Its caller has all that it wanted: the call may be forgotten, though not at once."""
        if call.call_id in self._calls:
            self._keep(call, "taken")

    def orphaned(self, function_ids: Collection[str]) -> None:
        """The app of these functions has stopped: their calls, which are finished, need not be kept for long."""
        for call in [call for call in self._calls.values() if call.function_id in function_ids]:
            self.taken(call)

    def _keep(self, call: Call, kind: Kind) -> None:
        streamed = sum(self._blob_size(blob_id) for stream in call.streams for blob_id in stream.blobs())
        self._retention.keep(call.call_id, kind, weight=call.weight, blob_bytes=call.blob_bytes + streamed)

    def _let_go(self, call_id: str) -> None:
        # A map may be among them that goes on: it comes back when it has finished again.
        if (found := self._calls.get(call_id)) is not None and not found.unfinished:
            self.forget(call_id)

    def forget(self, call_id: str) -> None:
        call = self._calls.pop(call_id, None)
        if call is None:
            return
        call.forgotten = True
        # Nobody asks for a web request by its id.
        remains = None if call.web else Expired(call.function_id, summary(call).SerializeToString())
        self._retention.gone(call_id, remains)
        siblings = self._children.get(call.parent_input_id, {})
        siblings.pop(call_id, None)
        if not siblings:
            self._children.pop(call.parent_input_id, None)
        for item in call.inputs.values():
            self._inputs.pop(item.input_id, None)
        for stream in call.streams:
            stream.close()
        for blob_id in [*call.blobs, *(blob_id for stream in call.streams for blob_id in stream.blobs())]:
            self._discard_blob(blob_id)


def _select(call: Call, request: api_pb2.FunctionGetOutputsRequest) -> list[int]:
    if request.HasField("start_idx"):
        return [idx for idx in range(request.start_idx, request.end_idx + 1) if idx in call.outputs]
    fresh = call.order[_position(request) :]
    return fresh[: request.max_values] if request.max_values else fresh


def _position(request: api_pb2.FunctionGetOutputsRequest) -> int:
    return int(request.last_entry_id.split("-")[0] or 0) if request.last_entry_id else 0


def failure(status: Status.GenericStatus.ValueType, message: str) -> api_pb2.FunctionGetOutputsItem:
    """An output that the server itself writes for an input whose code gave none."""
    return api_pb2.FunctionGetOutputsItem(result=Status(status=status, exception=message))
