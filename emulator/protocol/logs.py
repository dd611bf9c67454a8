"""Logs: the stream behind `modal run` and `modal app logs -f`, and the ranges behind `modal app logs`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modal_proto import api_pb2

from emulator.protocol.dispatch import not_found

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from google.protobuf.timestamp_pb2 import Timestamp

    from emulator.clock import Clock
    from emulator.protocol.dispatch import Caller
    from emulator.state import App, State


class LogHandlers:
    def __init__(self, state: State, clock: Clock) -> None:
        self._state = state
        self._clock = clock

    async def AppGetLogs(self, request: api_pb2.AppGetLogsRequest, _: Caller) -> AsyncIterator[api_pb2.TaskLogsBatch]:
        log = self._get(request.app_id).log
        last = request.last_entry_id
        ends = self._clock.monotonic() + request.timeout
        while True:
            for batch in log.after(last):
                last = batch.entry_id
                if _wanted(batch, request):
                    yield batch
            if log.done:
                yield api_pb2.TaskLogsBatch(app_done=True)
                return
            remaining = ends - self._clock.monotonic()
            if remaining <= 0:
                return
            try:
                async with self._clock.timeout(remaining):
                    await log.changed.wait()
            except TimeoutError:
                return

    async def AppFetchLogs(self, request: api_pb2.AppFetchLogsRequest, _: Caller) -> api_pb2.AppFetchLogsResponse:
        since, until = _seconds(request.since), _seconds(request.until)
        found = [
            batch
            for batch in self._get(request.app_id).log.after("")
            if since <= batch.items[0].timestamp < until
            and (not request.function_id or batch.function_id == request.function_id)
            and (not request.task_id or batch.task_id == request.task_id)
            and (not request.source or batch.items[0].file_descriptor == request.source)
            and request.search_text in batch.items[0].data
        ]
        return api_pb2.AppFetchLogsResponse(batches=found[-request.limit :] if request.limit else found)

    async def AppCountLogs(self, request: api_pb2.AppCountLogsRequest, _: Caller) -> api_pb2.AppCountLogsResponse:
        app = self._get(request.app_id)
        size = request.bucket_secs or 60
        buckets: dict[int, api_pb2.AppCountLogsResponse.LogBucket] = {}
        since, until = _seconds(request.since), _seconds(request.until)
        for batch in app.log.after(""):
            item = batch.items[0]
            if not since <= item.timestamp < until:
                continue
            start = int(item.timestamp // size) * size
            bucket = buckets.setdefault(start, api_pb2.AppCountLogsResponse.LogBucket())
            bucket.bucket_start_at.seconds = start
            if item.file_descriptor == api_pb2.FILE_DESCRIPTOR_STDERR:
                bucket.stderr_logs += 1
            else:
                bucket.stdout_logs += 1
        return api_pb2.AppCountLogsResponse(app_id=app.app_id, buckets=[buckets[start] for start in sorted(buckets)])

    def _get(self, app_id: str) -> App:
        if app_id not in self._state.apps:
            raise not_found(f"No App with ID {app_id}")
        return self._state.apps[app_id]


def _wanted(batch: api_pb2.TaskLogsBatch, request: api_pb2.AppGetLogsRequest) -> bool:
    return (
        (not request.function_id or batch.function_id == request.function_id)
        and (not request.task_id or batch.task_id == request.task_id)
        and (not request.file_descriptor or batch.items[0].file_descriptor == request.file_descriptor)
    )


def _seconds(timestamp: Timestamp) -> float:
    return timestamp.seconds + timestamp.nanos / 1e9
