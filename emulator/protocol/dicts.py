"""`modal.Dict`. Keys and values are what the client's pickles are: bytes, and equal keys are equal bytes.

Limits: https://modal.com/docs/guide/dicts
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from google.protobuf.empty_pb2 import Empty
from modal_proto import api_pb2

from emulator.protocol.dispatch import invalid, too_large
from emulator.protocol.heartbeats import Heartbeats
from emulator.protocol.named import NamedObjects
from emulator.state import WORKSPACE, DictRecord
from emulator.storage.dicts import DictContents as Contents
from emulator.storage.kept_rows import KeptRows

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from emulator.clock import Clock
    from emulator.protocol.dispatch import Caller
    from emulator.state import State
    from emulator.storage.store import Store

MAX_ENTRY = 100 << 20
"""Bytes of one entry."""
MAX_UPDATES = 10_000
"""Entries of one request."""
MAX_COUNT = 100_000
"""What `len` says at most, as its docstring has it."""
BATCH = 256 << 10
"""Bytes of entries that are sent together."""


class DictHandlers:
    def __init__(self, state: State, clock: Clock, store: Store) -> None:
        self.objects = NamedObjects("Dict", "di", state.dicts, state, heartbeats=Heartbeats(clock), ended=self._ended)
        self._clock = clock
        self._kept = KeptRows(store, "dict-rows")
        for dict_id, rows in self._kept.load().items():
            if (record := state.dicts.get(dict_id)) is not None:
                record.contents = Contents.from_rows(rows)
        for record in state.dicts.values():
            record.contents.changed = self._kept.of(record.dict_id)

    def _make(self, data: Iterable[api_pb2.DictEntry], dict_id: str, name: str, environment: str) -> DictRecord:
        made = DictRecord(dict_id, name, environment, self._clock.time())
        if name:
            made.contents.changed = self._kept.of(dict_id)
        for entry in data:
            made.contents.put(entry.key, entry.value, made.created_at)
        return made

    def _ended(self, record: DictRecord) -> None:
        self._kept.drop(record.dict_id)

    def _contents(self, dict_id: str) -> Contents:
        return self.objects.get(dict_id).contents

    # The object

    async def DictGetOrCreate(
        self, request: api_pb2.DictGetOrCreateRequest, _: Caller
    ) -> api_pb2.DictGetOrCreateResponse:
        _check(request.data)
        found = self.objects.get_or_create(request, partial(self._make, request.data))
        return api_pb2.DictGetOrCreateResponse(dict_id=found.dict_id, metadata=_metadata(found))

    async def DictGetById(self, request: api_pb2.DictGetByIdRequest, _: Caller) -> api_pb2.DictGetByIdResponse:
        found = self.objects.get(request.dict_id)
        return api_pb2.DictGetByIdResponse(dict_id=found.dict_id, metadata=_metadata(found))

    async def DictList(self, request: api_pb2.DictListRequest, _: Caller) -> api_pb2.DictListResponse:
        environment, named = self.objects.listed(request.environment_name, request.pagination)
        return api_pb2.DictListResponse(
            dicts=[
                api_pb2.DictListResponse.DictInfo(
                    name=found.name, created_at=found.created_at, dict_id=found.dict_id, metadata=_metadata(found)
                )
                for found in named
            ],
            environment_name=environment,
        )

    async def DictHeartbeat(self, request: api_pb2.DictHeartbeatRequest, _: Caller) -> Empty:
        self.objects.beat(request.dict_id)
        return Empty()

    async def DictDelete(self, request: api_pb2.DictDeleteRequest, _: Caller) -> Empty:
        self.objects.remove(request.dict_id)
        return Empty()

    # Its entries

    async def DictGet(self, request: api_pb2.DictGetRequest, _: Caller) -> api_pb2.DictGetResponse:
        value = self._contents(request.dict_id).get(request.key, self._clock.time())
        return api_pb2.DictGetResponse(found=value is not None, value=value)

    async def DictContains(self, request: api_pb2.DictContainsRequest, _: Caller) -> api_pb2.DictContainsResponse:
        value = self._contents(request.dict_id).get(request.key, self._clock.time())
        return api_pb2.DictContainsResponse(found=value is not None)

    async def DictPop(self, request: api_pb2.DictPopRequest, _: Caller) -> api_pb2.DictPopResponse:
        value = self._contents(request.dict_id).pop(request.key, self._clock.time())
        return api_pb2.DictPopResponse(found=value is not None, value=value)

    async def DictUpdate(self, request: api_pb2.DictUpdateRequest, _: Caller) -> api_pb2.DictUpdateResponse:
        """All entries at once, or none; `created` when one of them was put."""
        contents, now = self._contents(request.dict_id), self._clock.time()
        _check(request.updates)
        put = [contents.put(e.key, e.value, now, unless_there=request.if_not_exists) for e in request.updates]
        return api_pb2.DictUpdateResponse(created=any(put))

    async def DictLen(self, request: api_pb2.DictLenRequest, _: Caller) -> api_pb2.DictLenResponse:
        count = self._contents(request.dict_id).count(self._clock.time())
        return api_pb2.DictLenResponse(len=min(count, MAX_COUNT))

    async def DictClear(self, request: api_pb2.DictClearRequest, _: Caller) -> Empty:
        self._contents(request.dict_id).clear()
        return Empty()

    async def DictContents(
        self, request: api_pb2.DictContentsRequest, _: Caller
    ) -> AsyncIterator[Sequence[api_pb2.DictEntry]]:
        """The entries that are there now. Keys come with values too: the client names them where one is unreadable."""
        batch, size = [], 0
        for key, value in self._contents(request.dict_id).items(self._clock.time()):
            batch.append(api_pb2.DictEntry(key=key, value=value if request.values else b""))
            size += len(key) + (len(value) if request.values else 0)
            if size >= BATCH:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch


def _check(entries: Iterable[api_pb2.DictEntry]) -> None:
    entries = list(entries)
    if len(entries) > MAX_UPDATES:
        raise invalid(f"A Dict takes up to {MAX_UPDATES:,} entries in one update: there are {len(entries):,}")
    largest = max((len(entry.key) + len(entry.value) for entry in entries), default=0)
    if largest > MAX_ENTRY:
        raise too_large(f"a Dict takes entries of up to {MAX_ENTRY >> 20} MiB: one has {largest / (1 << 20):.1f}")


def _metadata(found: DictRecord) -> api_pb2.DictMetadata:
    return api_pb2.DictMetadata(
        name=found.name,
        creation_info=api_pb2.CreationInfo(created_at=found.created_at, created_by=WORKSPACE),
    )
