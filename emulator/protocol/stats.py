"""What has been called, and how it went: `modal function calls | stats` and `modal app stats`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modal_proto import api_pb2

from emulator.protocol.entries import seconds
from emulator.protocol.lookup import app_of, function_of
from emulator.protocol.metadata import lifecycle
from emulator.protocol.schema import has_field, made

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from google.protobuf.timestamp_pb2 import Timestamp

    from emulator.protocol.dispatch import Caller
    from emulator.scheduler.calls import Calls, Input
    from emulator.scheduler.history import Done, History, Served, Task
    from emulator.scheduler.scheduler import Scheduler
    from emulator.state import State

PERCENTILES = (5000, 9000, 9900)
"""In hundredths of a percent: those that the client shows."""

FIRST_FAILURE = 400
"""Statuses from which on a Server's answer counts as failed."""

Result = api_pb2.GenericResult


class StatsHandlers:
    def __init__(self, state: State, calls: Calls, scheduler: Scheduler, history: History) -> None:
        self._state = state
        self._calls = calls
        self._scheduler = scheduler
        self._history = history

    # Calls of a function

    async def FunctionCallFetch(
        self, request: api_pb2.FunctionCallFetchRequest, _: Caller
    ) -> api_pb2.FunctionCallFetchResponse:
        """With `tail` the latest first come last, as in a range: in the order in which they were queued."""
        infos = self._infos(request.function_id, all_variants=request.all_variants)
        if request.HasField("range"):
            since, until = seconds(request.range.since), seconds(request.range.until)
            infos = [info for info in infos if since <= seconds(info.enqueued_at) < until]
            infos = infos[: request.range.limit or None]
        else:
            infos = infos[-request.tail.count :] if request.tail.count else []
        return api_pb2.FunctionCallFetchResponse(function_call_inputs=infos)

    async def FunctionCallCount(
        self, request: api_pb2.FunctionCallCountRequest, _: Caller
    ) -> api_pb2.FunctionCallCountResponse:
        since, until, size = seconds(request.since), seconds(request.until), request.bucket_secs or 60
        counts: dict[int, int] = {}
        for info in self._infos(request.function_id, all_variants=request.all_variants):
            at = seconds(info.enqueued_at)
            if since <= at < until:
                counts[int(at // size) * size] = counts.get(int(at // size) * size, 0) + 1
        response = api_pb2.FunctionCallCountResponse()
        for start in sorted(counts):
            response.buckets.add(count=counts[start]).bucket_start_at.seconds = start
        return response

    def _infos(self, function_id: str, *, all_variants: bool) -> list[api_pb2.FunctionCallInputInfo]:
        wanted = self._functions(function_id, all_variants=all_variants)
        infos = [_finished(done) for done in self._history.inputs(wanted)]
        infos += [_unfinished(item) for item in self._calls.unfinished(wanted)]
        infos.sort(key=lambda info: seconds(info.enqueued_at))
        return infos

    def _functions(self, function_id: str, *, all_variants: bool) -> frozenset[str]:
        found = {function_of(self._state, function_id).function_id}
        if all_variants:
            found |= {r.function_id for r in self._state.functions.values() if r.base_function_id == function_id}
        return frozenset(found)

    # Sums over a window

    async def FunctionGetTimeRangeStats(
        self, request: api_pb2.FunctionGetTimeRangeStatsRequest, _: Caller
    ) -> api_pb2.FunctionGetTimeRangeStatsResponse:
        functions = self._functions(request.function_id, all_variants=request.rollup)
        since, until = seconds(request.since), seconds(request.until)
        inputs = [done for done in self._history.inputs(functions) if since <= done.finished_at < until]
        tasks = self._tasks(functions, since, until)
        running = [item for item in self._calls.unfinished(functions) if item.task_id]
        if has_field(request, "container_id") and request.container_id:
            inputs = [done for done in inputs if done.task_id == request.container_id]
            tasks = [task for task in tasks if task.task_id == request.container_id]
            running = [item for item in running if item.task_id == request.container_id]
        response = made(
            api_pb2.FunctionGetTimeRangeStatsResponse,
            since=request.since,
            until=request.until,
            input_success_count=sum(done.status == Result.GENERIC_STATUS_SUCCESS for done in inputs),
            input_timeout_count=sum(done.status == Result.GENERIC_STATUS_TIMEOUT for done in inputs),
            input_running_at_end_count=len(running),
            container_total_count=len(tasks),
            container_started_count=sum(bool(task.ready_at) and since <= task.ready_at < until for task in tasks),
            container_error_count=sum(task.failed for task in tasks),
            container_creating_at_end_count=sum(not task.ready_at and not task.finished_at for task in tasks),
            variant_count=len(functions) - 1,
        )
        response.input_failure_count = len(inputs) - response.input_success_count - response.input_timeout_count
        if not has_field(response, "input_percentile_stats"):  # of a client before 1.6
            return response
        add_percentiles(response.input_percentile_stats, "Execution time (s)", _executions(inputs))
        add_percentiles(
            response.input_percentile_stats,
            "End-to-end latency (s)",
            [done.finished_at - done.enqueued_at for done in inputs],
        )
        add_percentiles(
            response.container_percentile_stats,
            "Startup time (s)",
            [task.ready_at - task.enqueued_at for task in tasks if task.ready_at],
        )
        return response

    def _tasks(self, functions: frozenset[str], since: float, until: float) -> list[Task]:
        return tasks_within(self._history, functions, since, until)

    async def AppGetTimeRangeStats(
        self, request: api_pb2.AppGetTimeRangeStatsRequest, _: Caller
    ) -> api_pb2.AppGetTimeRangeStatsResponse:
        app = app_of(self._state, request.app_id)
        since, until = seconds(request.since), seconds(request.until)
        response = api_pb2.AppGetTimeRangeStatsResponse(
            since=request.since,
            until=request.until,
            lifecycle=lifecycle(app),
            sandboxes=api_pb2.AppSandboxCounts(),  # there are none here
            deployment_count=sum(since <= entry.deployed_at < until for entry in app.history),
        )
        for tag, function_id in app.function_ids.items():
            functions = self._functions(function_id, all_variants=True)
            tasks = self._tasks(functions, since, until)
            containers = api_pb2.AppContainerCounts(
                container_errors=sum(task.failed for task in tasks), container_active_count=len(tasks)
            )
            if self._state.functions[function_id].definition.is_server:
                server = response.servers.by_name[tag]
                server.object_id = function_id
                server.counts.containers.CopyFrom(containers)
                _sum(response.servers.total.containers, containers)
                served = [r for r in self._history.requests(function_id) if since <= r.at < until]
                _count(server.counts.requests, served)
                _count(response.servers.total.requests, served)
                continue
            inputs = [done for done in self._history.inputs(functions) if since <= done.finished_at < until]
            good = sum(done.status == Result.GENERIC_STATUS_SUCCESS for done in inputs)
            function = response.functions.by_name[tag]
            function.object_id = function_id
            function.counts.containers.CopyFrom(containers)
            function.counts.calls.CopyFrom(
                api_pb2.AppCallCounts(total=len(inputs), succeeded=good, failed=len(inputs) - good)
            )
            _sum(response.functions.total.containers, containers)
            total = response.functions.total.calls
            total.total += len(inputs)
            total.succeeded += good
            total.failed += len(inputs) - good
        return response


def _count(total: api_pb2.AppRequestCounts, served: Sequence[Served]) -> None:
    good = sum(request.status < FIRST_FAILURE for request in served)
    total.total += len(served)
    total.ok += good
    total.failed += len(served) - good


def _sum(total: api_pb2.AppContainerCounts, more: api_pb2.AppContainerCounts) -> None:
    total.container_errors += more.container_errors
    total.container_active_count += more.container_active_count


def tasks_within(history: History, functions: frozenset[str], since: float, until: float) -> list[Task]:
    """Containers that were there at some time of the window."""
    return [
        task
        for task in history.tasks(functions)
        if task.enqueued_at < until and (not task.finished_at or task.finished_at >= since)
    ]


def _executions(inputs: Iterable[Done]) -> list[float]:
    return [done.finished_at - done.started_at for done in inputs if done.started_at]


def percentile(values: Sequence[float], basis_points: int) -> float:
    """The nearest-rank percentile of values that are sorted."""
    rank = -(-len(values) * basis_points // 10_000)
    return values[max(rank, 1) - 1]


def add_percentiles(distributions: object, name: str, values: Iterable[float]) -> None:
    ordered = sorted(values)
    if not ordered:
        return
    distribution = distributions[name]  # type: ignore[index]
    distribution.unit = "s"
    for points in PERCENTILES:
        distribution.percentiles.add(percentile_basis_points=points, value=percentile(ordered, points))


def _finished(done: Done) -> api_pb2.FunctionCallInputInfo:
    info = api_pb2.FunctionCallInputInfo(
        function_call_id=done.call_id,
        status=getattr(api_pb2, "FUNCTION_CALL_INPUT_STATUS_" + _status_name(done.status)),
    )
    stamp(info.enqueued_at, done.enqueued_at)
    if done.method:
        info.service_method_name = done.method
    if done.started_at:
        stamp(info.started_at, done.started_at)
        info.execution_time_seconds = done.finished_at - done.started_at
    if done.task_id:
        info.container_id = done.task_id
    return info


def _status_name(status: Result.GenericStatus.ValueType) -> str:
    name = Result.GenericStatus.Name(status).removeprefix("GENERIC_STATUS_")
    return name if f"FUNCTION_CALL_INPUT_STATUS_{name}" in api_pb2.FunctionCallInputStatus.keys() else "FAILURE"  # noqa: SIM118


def _unfinished(item: Input) -> api_pb2.FunctionCallInputInfo:
    info = api_pb2.FunctionCallInputInfo(
        function_call_id=item.call.call_id,
        status=api_pb2.FUNCTION_CALL_INPUT_STATUS_RUNNING
        if item.task_id
        else api_pb2.FUNCTION_CALL_INPUT_STATUS_PENDING,
    )
    stamp(info.enqueued_at, item.enqueued_at)
    if item.payload.method_name:
        info.service_method_name = item.payload.method_name
    if item.task_id:
        stamp(info.started_at, item.started_at)
        info.container_id = item.task_id
    return info


def stamp(timestamp: Timestamp, moment: float) -> None:
    timestamp.FromNanoseconds(int(moment * 1e9))
