"""Logs: the stream behind `modal run` and `modal app logs -f`, and the ranges behind `modal app logs`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modal_proto import api_pb2

from emulator.protocol.dispatch import invalid, not_found
from emulator.protocol.entries import entries, filter_of, seconds, selected
from emulator.protocol.lookup import app_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from emulator.clock import Clock
    from emulator.protocol.dispatch import Caller
    from emulator.sandboxes.sandboxes import Sandboxes
    from emulator.scheduler.history import History
    from emulator.state import App, State

JUST_NOW = 1.0
"""Seconds that who begins to follow a deployed app sees of what was before: nothing is lost right after a deploy."""


class LogHandlers:
    def __init__(self, state: State, clock: Clock, history: History, sandboxes: Sandboxes) -> None:
        self._sandboxes = sandboxes
        self._state = state
        self._clock = clock
        self._history = history

    async def AppGetLogs(self, request: api_pb2.AppGetLogsRequest, _: Caller) -> AsyncIterator[api_pb2.TaskLogsBatch]:
        app = self._followed(request)
        log, wanted = app.log, filter_of(request, self._task_of)
        last = request.last_entry_id
        if not last and app.state == api_pb2.APP_STATE_DEPLOYED:
            last = log.before(self._clock.time() - JUST_NOW)
            yield api_pb2.TaskLogsBatch(entry_id=last)  # who comes back with it has missed nothing
        ends = self._clock.outside.monotonic() + request.timeout
        while True:
            over = log.done or self._ended(wanted.task_id)
            fresh = log.after(last)
            for batch in selected(fresh, wanted):
                yield batch
            if fresh:
                last = fresh[-1].entry_id
            if over:
                yield api_pb2.TaskLogsBatch(app_done=True)
                return
            if log.newer(last):  # came while the others were being sent
                continue
            remaining = ends - self._clock.outside.monotonic()
            if remaining <= 0:
                return
            try:
                async with self._clock.outside.timeout(remaining):
                    await log.changed.wait()
            except TimeoutError:
                return

    def _followed(self, request: api_pb2.AppGetLogsRequest) -> App:
        if request.app_id:
            return app_of(self._state, request.app_id)
        if request.sandbox_id:
            return app_of(self._state, self._sandboxes.get(request.sandbox_id).app_id)
        if request.task_id:
            if (task := self._history.task(request.task_id)) is None:
                raise not_found(f"No container with ID {request.task_id}")
            return app_of(self._state, task.app_id)
        raise invalid("Logs of what? Neither an App nor a container is named")

    def _task_of(self, sandbox_id: str) -> str:
        return self._sandboxes.get(sandbox_id).task_id

    def _ended(self, task_id: str) -> bool:
        task = self._history.task(task_id) if task_id else None
        return task is not None and bool(task.finished_at)

    async def AppFetchLogs(self, request: api_pb2.AppFetchLogsRequest, _: Caller) -> api_pb2.AppFetchLogsResponse:
        log = app_of(self._state, request.app_id).log
        found = entries(
            log.after(""), filter_of(request, self._task_of), seconds(request.since), seconds(request.until)
        )
        last = found[-request.limit :] if request.limit else found
        return api_pb2.AppFetchLogsResponse(batches=[line.message() for line in last])

    async def AppCountLogs(self, request: api_pb2.AppCountLogsRequest, _: Caller) -> api_pb2.AppCountLogsResponse:
        app = app_of(self._state, request.app_id)
        size = request.bucket_secs or 60
        buckets: dict[int, api_pb2.AppCountLogsResponse.LogBucket] = {}
        found = entries(
            app.log.after(""), filter_of(request, self._task_of), seconds(request.since), seconds(request.until)
        )
        for item in (line.item for line in found):
            start = int(item.timestamp // size) * size
            bucket = buckets.setdefault(start, api_pb2.AppCountLogsResponse.LogBucket())
            bucket.bucket_start_at.seconds = start
            if item.file_descriptor == api_pb2.FILE_DESCRIPTOR_STDERR:
                bucket.stderr_logs += 1
            elif item.file_descriptor == api_pb2.FILE_DESCRIPTOR_INFO:
                bucket.system_logs += 1
            else:
                bucket.stdout_logs += 1
        return api_pb2.AppCountLogsResponse(app_id=app.app_id, buckets=[buckets[start] for start in sorted(buckets)])
