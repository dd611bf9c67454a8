"""Calls as they are shown: how many inputs of one are in which state, and what called what. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modal_proto import api_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from emulator.scheduler.calls import Call, Calls, Input

GRAPH_INPUTS = 10_000
"""Inputs that a call graph has before it is cut, which its reader is told."""

Result = api_pb2.GenericResult


def summary(call: Call) -> api_pb2.FunctionCallInfo:
    """The state of a call: its inputs by outcome, with the latest of each."""
    info = api_pb2.FunctionCallInfo(
        function_call_id=call.call_id, created_at=call.created_at, total_inputs=len(call.inputs)
    )
    latest: dict[str, int] = {}
    for idx in call.order:
        name = _category(call.outputs[idx].result.status)
        getattr(info, name).total += 1
        latest[name] = idx
    for name, idx in latest.items():
        getattr(info, name).latest.append(_shown(call, idx))
    info.pending_inputs.total = call.unfinished
    return info


def _category(status: Result.GenericStatus.ValueType) -> str:
    named = {
        Result.GENERIC_STATUS_SUCCESS: "succeeded_inputs",
        Result.GENERIC_STATUS_TIMEOUT: "timeout_inputs",
        Result.GENERIC_STATUS_TERMINATED: "cancelled_inputs",
    }
    return named.get(status, "failed_inputs")


def _shown(call: Call, idx: int) -> api_pb2.InputInfo:
    output = call.outputs[idx]
    return api_pb2.InputInfo(
        input_id=output.input_id,
        idx=idx,
        task_id=output.task_id,
        started_at=output.input_started_at,
        finished_at=output.output_created_at,
    )


def call_graph(
    calls: Calls, call: Call, names: Callable[[Call, Input], tuple[str, str]]
) -> api_pb2.FunctionGetCallGraphResponse:
    """Everything that began with the same root as that call: inputs, and the calls that they belong to.

    `names` gives the function's and the module's name of a call. A call whose own maker is forgotten is a root.
    """
    graph = api_pb2.FunctionGetCallGraphResponse()
    for member in _family(calls, root_of(calls, call)):
        if len(graph.inputs) + len(member.inputs) > GRAPH_INPUTS:
            if hasattr(graph, "truncated"):  # which clients before 1.6 do not know
                graph.truncated = True
            break
        first = next(iter(member.inputs.values()), None)
        if first is None:
            continue
        function, module = names(member, first)
        graph.function_calls.add(
            function_call_id=member.call_id,
            parent_input_id=member.parent_input_id if calls.input(member.parent_input_id) else "",
            function_name=function,
            module_name=module,
        )
        for item in member.inputs.values():
            output = member.outputs.get(item.idx)
            graph.inputs.add(
                input_id=item.input_id,
                function_call_id=member.call_id,
                task_id=output.task_id if output else item.task_id,
                status=output.result.status if output else Result.GENERIC_STATUS_UNSPECIFIED,
            )
    return graph


def root_of(calls: Calls, call: Call) -> Call:
    """The call at the beginning of the chain that led to it, as far as that is known."""
    while (parent := calls.input(call.parent_input_id)) is not None:
        call = parent.call
    return call


def _family(calls: Calls, root: Call) -> Iterator[Call]:
    """A call and all that came of it, callers before those they called."""
    waiting = [root]
    for call in waiting:
        yield call
        for item in call.inputs.values():
            waiting += calls.children(item.input_id)
