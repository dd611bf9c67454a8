"""Requests to Servers, and how they went: `modal server stats | requests`. Clients before 1.6 do not ask."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from modal_proto import api_pb2

from emulator.protocol.dispatch import not_found
from emulator.protocol.entries import seconds
from emulator.protocol.stats import add_percentiles, stamp, tasks_within

if TYPE_CHECKING:
    from emulator.protocol.dispatch import Caller
    from emulator.scheduler.history import History, Served
    from emulator.state import State


class ServerStatsHandlers:
    def __init__(self, state: State, history: History) -> None:
        self._state = state
        self._history = history

    def _requests(self, function_id: str) -> list[Served]:
        record = self._state.functions.get(function_id)
        if record is None or not record.definition.is_server:
            raise not_found(f"No Server with ID {function_id}")
        return self._history.requests(function_id)

    async def ServerRequestFetch(
        self, request: api_pb2.ServerRequestFetchRequest, _: Caller
    ) -> api_pb2.ServerRequestFetchResponse:
        """The latest first with `tail`, the oldest first in a range."""
        found = self._requests(request.function_id)
        if request.HasField("range"):
            since, until = seconds(request.range.since), seconds(request.range.until)
            found = [served for served in found if since <= served.at < until][: request.range.limit or None]
        else:
            found = found[::-1][: request.tail.count]
        return api_pb2.ServerRequestFetchResponse(requests=[_told(served) for served in found])

    async def ServerCountRequests(
        self, request: api_pb2.ServerCountRequestsRequest, _: Caller
    ) -> api_pb2.ServerCountRequestsResponse:
        since, until, size = seconds(request.since), seconds(request.until), request.bucket_secs or 60
        found = self._requests(request.function_id)
        counts = Counter(int(served.at // size) * size for served in found if since <= served.at < until)
        response = api_pb2.ServerCountRequestsResponse()
        for start in sorted(counts):
            response.buckets.add(count=counts[start]).bucket_start_at.seconds = start
        return response

    async def ServerGetTimeRangeStats(
        self, request: api_pb2.ServerGetTimeRangeStatsRequest, _: Caller
    ) -> api_pb2.ServerGetTimeRangeStatsResponse:
        since, until = seconds(request.since), seconds(request.until)
        found = [served for served in self._requests(request.function_id) if since <= served.at < until]
        tasks = tasks_within(self._history, frozenset({request.function_id}), since, until)
        if request.container_id:
            found = [served for served in found if served.task_id == request.container_id]
            tasks = [task for task in tasks if task.task_id == request.container_id]
        response = api_pb2.ServerGetTimeRangeStatsResponse(
            since=request.since,
            until=request.until,
            request_count=len(found),
            request_rate_per_second=len(found) / max(until - since, 1.0),
            container_started_count=sum(bool(task.ready_at) and since <= task.ready_at < until for task in tasks),
            container_error_count=sum(task.failed for task in tasks),
            container_creating_at_end_count=sum(not task.ready_at and not task.finished_at for task in tasks),
            container_total_count=len(tasks),
        )
        # A hundred statuses each: what the client shows as 2xx, 4xx, 5xx.
        for family, count in sorted(Counter(served.status // 100 * 100 for served in found).items()):
            response.request_count_by_status_code.add(status_code=family, count=count)
        add_percentiles(response.request_percentile_stats, "Latency (s)", [served.seconds for served in found])
        starts = [task.ready_at - task.enqueued_at for task in tasks if task.ready_at]
        add_percentiles(response.container_percentile_stats, "Startup time (s)", starts)
        return response


def _told(served: Served) -> api_pb2.ServerRequestInfo:
    info = api_pb2.ServerRequestInfo(
        route=served.route, container_id=served.task_id, duration_seconds=served.seconds, status=served.status
    )
    stamp(info.timestamp, served.at)
    return info
