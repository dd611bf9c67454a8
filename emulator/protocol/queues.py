"""`modal.Queue`. Values are what the client's pickles are: bytes.

Limits: the docstring of the client's `Queue`, and https://modal.com/docs/guide/queues
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from google.protobuf.empty_pb2 import Empty
from grpclib import GRPCError, Status
from modal_proto import api_pb2

from emulator.protocol.dispatch import Handover, invalid, not_found, too_large
from emulator.protocol.heartbeats import Heartbeats
from emulator.protocol.named import NamedObjects
from emulator.state import WORKSPACE, QueueRecord
from emulator.storage.kept_rows import KeptRows
from emulator.storage.lines import QueueGoneError, QueueLines
from emulator.storage.queues import MAX_BYTES, QueueContents, QueueFullError

if TYPE_CHECKING:
    from emulator.clock import Clock
    from emulator.protocol.dispatch import Caller
    from emulator.state import State
    from emulator.storage.store import Store

MAX_ITEM = 1 << 20
"""Bytes of one item."""
MAX_KEY = 64
"""Bytes of a partition's name."""
MAX_TTL = 24 * 3600
"""Seconds that a partition is there after the last put: "a lower TTL can be specified"."""
MAX_COUNT = 100_000
"""What a Queue is said to hold at most."""
MAX_WAIT = 55.0
"""Seconds that a request is held; the client asks for 50."""
BATCH = 16 << 20
"""Bytes of items in one answer, if there is more than one."""


class QueueHandlers:
    def __init__(self, state: State, clock: Clock, store: Store) -> None:
        self.objects = NamedObjects("Queue", "qu", state.queues, state, heartbeats=Heartbeats(clock), ended=self._ended)
        self._clock = clock
        self._lines: dict[str, QueueLines] = {}
        self._kept = KeptRows(store, "queue-rows")
        for queue_id, rows in self._kept.load().items():
            if (record := state.queues.get(queue_id)) is not None:
                record.contents = QueueContents.from_rows(rows)
        for record in state.queues.values():
            record.contents.changed = self._kept.of(record.queue_id)

    def _make(self, queue_id: str, name: str, environment: str) -> QueueRecord:
        made = QueueRecord(queue_id, name, environment, self._clock.time())
        if name:
            made.contents.changed = self._kept.of(queue_id)
        return made

    def _ended(self, record: QueueRecord) -> None:
        self._kept.drop(record.queue_id)
        if (lines := self._lines.pop(record.queue_id, None)) is not None:
            lines.close()

    def _queue(self, queue_id: str, partition: bytes = b"") -> QueueLines:
        record = self.objects.get(queue_id)
        if len(partition) > MAX_KEY:
            raise invalid(f"A Queue partition's key has up to {MAX_KEY} bytes: this has {len(partition)}")
        if queue_id not in self._lines:
            self._lines[queue_id] = QueueLines(record.contents, self._clock)
        return self._lines[queue_id]

    # The object

    async def QueueGetOrCreate(
        self, request: api_pb2.QueueGetOrCreateRequest, _: Caller
    ) -> api_pb2.QueueGetOrCreateResponse:
        found = self.objects.get_or_create(request, self._make)
        return api_pb2.QueueGetOrCreateResponse(queue_id=found.queue_id, metadata=_metadata(found))

    async def QueueGetById(self, request: api_pb2.QueueGetByIdRequest, _: Caller) -> api_pb2.QueueGetByIdResponse:
        found = self.objects.get(request.queue_id)
        return api_pb2.QueueGetByIdResponse(queue_id=found.queue_id, metadata=_metadata(found))

    async def QueueList(self, request: api_pb2.QueueListRequest, _: Caller) -> api_pb2.QueueListResponse:
        environment, named = self.objects.listed(request.environment_name, request.pagination)
        limit, now = request.total_size_limit or MAX_COUNT, self._clock.time()
        return api_pb2.QueueListResponse(
            queues=[
                api_pb2.QueueListResponse.QueueInfo(
                    name=found.name,
                    created_at=found.created_at,
                    num_partitions=found.contents.partitions(now),
                    total_size=min(found.contents.total(now), limit),
                    queue_id=found.queue_id,
                    metadata=_metadata(found),
                )
                for found in named
            ],
            environment_name=environment,
        )

    async def QueueHeartbeat(self, request: api_pb2.QueueHeartbeatRequest, _: Caller) -> Empty:
        self.objects.beat(request.queue_id)
        return Empty()

    async def QueueDelete(self, request: api_pb2.QueueDeleteRequest, _: Caller) -> Empty:
        self.objects.remove(request.queue_id)
        return Empty()

    # Its items

    async def QueuePut(self, request: api_pb2.QueuePutRequest, _: Caller) -> Empty:
        queue = self._queue(request.queue_id, request.partition_key)
        _check(request)
        try:
            queue.put(request.partition_key, request.values, ttl=request.partition_ttl_seconds or MAX_TTL)
        except QueueFullError as error:
            raise GRPCError(Status.RESOURCE_EXHAUSTED, f"The Queue is full: {error}") from error
        return Empty()

    async def QueueGet(self, request: api_pb2.QueueGetRequest, _: Caller) -> Handover:
        key, queue = request.partition_key, self._queue(request.queue_id, request.partition_key)
        if request.n_values < 1:
            raise invalid(f"At least one item has to be asked for, not {request.n_values}")
        try:
            taken = await queue.take(key, request.n_values, min(request.timeout, MAX_WAIT))
        except QueueGoneError as error:
            raise not_found(f"No Queue with ID {request.queue_id}") from error
        response = api_pb2.QueueGetResponse(values=[item.value for item in taken.items])
        return Handover(response, partial(queue.put_back, key, taken))

    async def QueueNextItems(self, request: api_pb2.QueueNextItemsRequest, _: Caller) -> api_pb2.QueueNextItemsResponse:
        key, queue = request.partition_key, self._queue(request.queue_id, request.partition_key)
        last = request.last_entry_id or "0"
        if not last.isdecimal():
            raise invalid(f"Invalid entry ID {last!r}")
        try:
            items = await queue.after(key, int(last), min(request.item_poll_timeout, MAX_WAIT))
        except QueueGoneError as error:
            raise not_found(f"No Queue with ID {request.queue_id}") from error
        response, size = api_pb2.QueueNextItemsResponse(), 0
        for item in items:
            response.items.add(value=item.value, entry_id=str(item.entry_id))
            size += len(item.value)
            if size >= BATCH:
                break
        return response

    async def QueueLen(self, request: api_pb2.QueueLenRequest, _: Caller) -> api_pb2.QueueLenResponse:
        contents, now = self._queue(request.queue_id, request.partition_key).contents, self._clock.time()
        count = contents.total(now) if request.total else contents.count(request.partition_key, now)
        return api_pb2.QueueLenResponse(len=min(count, MAX_COUNT))

    async def QueueClear(self, request: api_pb2.QueueClearRequest, _: Caller) -> Empty:
        contents = self._queue(request.queue_id, request.partition_key).contents
        if request.all_partitions:
            contents.clear_all()
        else:
            contents.clear(request.partition_key)
        return Empty()


def _check(request: api_pb2.QueuePutRequest) -> None:
    largest, size = max(map(len, request.values), default=0), sum(map(len, request.values))
    if largest > MAX_ITEM:
        raise invalid(f"A Queue takes items of up to {MAX_ITEM >> 20} MiB: one has {largest / (1 << 20):.2f} MiB")
    if size > MAX_BYTES:
        raise too_large(f"a Queue's partition holds up to {MAX_BYTES >> 20} MiB: these are {size / (1 << 20):.1f}")
    if not 0 <= request.partition_ttl_seconds <= MAX_TTL:
        raise invalid(f"A Queue's partition_ttl is up to {MAX_TTL:,} seconds, not {request.partition_ttl_seconds:,}")


def _metadata(found: QueueRecord) -> api_pb2.QueueMetadata:
    return api_pb2.QueueMetadata(
        name=found.name,
        creation_info=api_pb2.CreationInfo(created_at=found.created_at, created_by=WORKSPACE),
    )
