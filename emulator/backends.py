"""Web functions and Servers as the ingress reaches them."""

from __future__ import annotations

import pickle
from contextlib import asynccontextmanager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from grpclib import GRPCError
from modal_proto import api_pb2

from emulator.ingress.base import WebInputFailed
from emulator.scheduler.history import Served
from emulator.scheduler.policy import sessioned

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from emulator.scheduler.calls import Call, Calls, Input
    from emulator.scheduler.scheduler import Scheduler
    from emulator.scheduler.server_pool import ServerPool
    from emulator.scheduler.slot import Slot
    from emulator.state import FunctionRecord


class WebCall:
    """One request as an input of a function: events in, events out."""

    def __init__(self, call: Call, item: Input, cancel: Callable[[], None], read_blob: Callable[[str], bytes]) -> None:
        self._call = call
        self._item = item
        self._cancel = cancel
        self._read_blob = read_blob

    async def send(self, message: api_pb2.Asgi) -> None:
        chunk = api_pb2.DataChunk(data_format=api_pb2.DATA_FORMAT_ASGI, data=message.SerializeToString())
        await self._call.data_in.put([chunk])

    async def events(self) -> AsyncIterator[list[api_pb2.Asgi]]:
        async for chunks in self._call.data_out.batches():
            yield [api_pb2.Asgi.FromString(self._data(chunk)) for chunk in chunks]
        result = self._call.outputs[self._item.idx].result
        if result.status != api_pb2.GenericResult.GENERIC_STATUS_SUCCESS:
            raise WebInputFailed(web_failure(result))

    def _data(self, chunk: api_pb2.DataChunk) -> bytes:
        return self._read_blob(chunk.data_blob_id) if chunk.data_blob_id else chunk.data

    async def cancel(self) -> None:
        self._cancel()


def web_failure(result: api_pb2.GenericResult) -> str:
    """What Modal tells a caller of the web about an input that failed."""
    if result.status == api_pb2.GenericResult.GENERIC_STATUS_TIMEOUT:
        return "function execution timed out"
    if result.status == api_pb2.GenericResult.GENERIC_STATUS_INTERNAL_FAILURE:
        return "function was terminated by signal"
    name = api_pb2.GenericResult.GenericStatus.Name(result.status).removeprefix("GENERIC_STATUS_")
    return f"status {name.title().replace('_', '')}: {result.exception or 'the input ended without an answer'}"


class WebFunction:
    """A `FunctionBackend` over a pool; `method` is a class's, or empty.

    `bind` gives the function that a request with that query is for: of a class with parameters, one of many.
    """

    def __init__(
        self,
        record: FunctionRecord,
        method: str,
        *,
        calls: Calls,
        scheduler: Scheduler,
        read_blob: Callable[[str], bytes],
        bind: Callable[[FunctionRecord, bytes], FunctionRecord] = lambda record, _: record,
    ) -> None:
        self._record = record
        self._method = method
        self._bind = bind
        self._calls = calls
        self._scheduler = scheduler
        self._read_blob = read_blob

    @asynccontextmanager
    async def open(self, scope: dict[str, Any]) -> AsyncIterator[WebCall]:
        try:
            record = self._bind(self._record, scope.get("query_string", b""))
        except (ValueError, GRPCError) as error:
            raise WebInputFailed(str(error)) from error
        call = self._calls.create(record.function_id, web=True)
        payload = api_pb2.FunctionInput(
            args=pickle.dumps(((scope,), {})), data_format=api_pb2.DATA_FORMAT_PICKLE, method_name=self._method
        )
        item = self._scheduler.submit(call, payload, 0)

        def cancel() -> None:
            if not item.done:
                self._scheduler.cancel(call)

        try:
            yield WebCall(call, item, cancel, self._read_blob)
        finally:
            cancel()
            # Its one reader is gone: a busy site would else keep thousands of answers.
            self._calls.forget(call.call_id)


class ServerContainer:
    """A `ServerTarget`: one container of a Server that takes requests."""

    def __init__(self, pool: ServerPool, slot: Slot) -> None:
        self._pool = pool
        self._slot = slot

    @property
    def task_id(self) -> str:
        return self._slot.task_id

    @property
    def active(self) -> int:
        return self._slot.requests

    async def dial(self) -> socket.socket:
        if self._slot.container is None:
            raise ConnectionRefusedError(f"container {self.task_id} has ended")
        return await self._slot.container.dial(self._pool.record.definition.http_config.port)

    @asynccontextmanager
    async def track(self) -> AsyncIterator[None]:
        self._pool.request_begins(self._slot)
        try:
            yield
        finally:
            self._pool.request_ends(self._slot)


class WebServer:
    """A `ServerBackend` over a pool."""

    def __init__(self, record: FunctionRecord, scheduler: Scheduler) -> None:
        self._record = record
        self._scheduler = scheduler

    @property
    def sessioned(self) -> bool:
        return sessioned(self._record.definition)

    @property
    def max_concurrency(self) -> int | None:
        definition = self._record.definition
        experimental = definition.experimental_options.get("max_concurrency", "")
        return definition.max_concurrent_inputs or int(experimental or 0) or None

    def targets(self) -> Sequence[ServerContainer]:
        pool = self._scheduler.server_pool(self._record.function_id)
        return [ServerContainer(pool, slot) for slot in pool.targets()] if pool is not None else []

    def serves(self, task_id: str) -> bool:
        pool = self._scheduler.server_pool(self._record.function_id)
        return pool is not None and pool.serves(task_id)

    @contextmanager
    def queued(self) -> Iterator[None]:
        pool = self._scheduler.server_pool(self._record.function_id)
        with pool.queued() if pool is not None else nullcontext():
            yield

    async def changed(self) -> None:
        await self._scheduler.changed.wait()

    def demand(self) -> None:
        if (pool := self._scheduler.server_pool(self._record.function_id)) is not None:
            pool.demand()

    def handled(self, task_id: str, *, route: str, at: float, seconds: float, status: int) -> None:
        self._scheduler.history.served(Served(self._record.function_id, task_id, route, at, seconds, status))
