"""Calls and their outputs, without containers."""

from __future__ import annotations

import asyncio

import pytest
from modal_proto import api_pb2

import emulator.scheduler.calls as module
from emulator.scheduler.calls import Call, Calls
from tests.emulator.heart_kit import TurnedClock, settle


def output() -> api_pb2.FunctionGetOutputsItem:
    return api_pb2.FunctionGetOutputsItem(
        result=api_pb2.GenericResult(status=api_pb2.GenericResult.GENERIC_STATUS_SUCCESS)
    )


def put(calls: Calls, call: Call, count: int) -> list[module.Input]:
    return [calls.add_input(call, api_pb2.FunctionInput(), idx) for idx in range(count)]


async def test_a_map_gets_outputs_in_the_order_in_which_they_come_each_once() -> None:
    calls = Calls(TurnedClock())
    call = calls.create("fu-1", kind=api_pb2.FUNCTION_CALL_TYPE_MAP)
    inputs = put(calls, call, 3)
    calls.finish(inputs[2], output())
    calls.finish(inputs[0], output())
    first = await calls.outputs(call, api_pb2.FunctionGetOutputsRequest(last_entry_id="0-0", timeout=5))
    assert [item.idx for item in first.outputs] == [2, 0]
    assert first.num_unfinished_inputs == 1
    calls.finish(inputs[1], output())
    rest = await calls.outputs(call, api_pb2.FunctionGetOutputsRequest(last_entry_id=first.last_entry_id, timeout=5))
    assert [item.idx for item in rest.outputs] == [1]


async def test_outputs_cut_by_a_limit_come_with_the_next_request() -> None:
    calls = Calls(TurnedClock())
    call = calls.create("fu-1", kind=api_pb2.FUNCTION_CALL_TYPE_MAP)
    for item in put(calls, call, 3):
        calls.finish(item, output())
    first = await calls.outputs(call, api_pb2.FunctionGetOutputsRequest(last_entry_id="0-0", max_values=2))
    rest = await calls.outputs(call, api_pb2.FunctionGetOutputsRequest(last_entry_id=first.last_entry_id))
    assert ([item.idx for item in first.outputs], [item.idx for item in rest.outputs]) == ([0, 1], [2])


async def test_waiting_for_an_output_ends_with_the_requests_timeout() -> None:
    clock = TurnedClock()
    calls = Calls(clock)
    call = calls.create("fu-1")
    put(calls, call, 1)
    waiting = asyncio.create_task(
        calls.outputs(call, api_pb2.FunctionGetOutputsRequest(start_idx=0, end_idx=0, timeout=55))
    )
    await clock.turn(54)
    assert not waiting.done()
    await clock.turn(2)
    assert (len(waiting.result().outputs), waiting.result().num_unfinished_inputs) == (0, 1)


async def test_an_input_has_one_outcome() -> None:
    calls = Calls(TurnedClock())
    call = calls.create("fu-1")
    (item,) = put(calls, call, 1)
    calls.finish(item, output())
    calls.finish(item, module.failure(api_pb2.GenericResult.GENERIC_STATUS_TIMEOUT, "late"))
    assert call.outputs[0].result.status == api_pb2.GenericResult.GENERIC_STATUS_SUCCESS


async def test_finished_calls_are_forgotten_after_a_while_and_their_readers_let_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "FINISHED_CALLS_KEPT", 2)
    monkeypatch.setattr(module, "SPAWNED_RESULTS_KEPT", 3)
    calls = Calls(TurnedClock())
    taken = [calls.create("fu-1") for _ in range(4)]
    spawned = [calls.create("fu-1", invocation=api_pb2.FUNCTION_CALL_INVOCATION_TYPE_ASYNC) for _ in range(4)]
    for call in (*taken, *spawned):
        calls.finish(put(calls, call, 1)[0], output())
    reading = asyncio.create_task(anext(taken[0].data_out.read(), None))
    await settle()
    for call in taken:
        await calls.outputs(call, api_pb2.FunctionGetOutputsRequest(start_idx=0, end_idx=0, clear_on_success=True))
    await settle()
    assert [calls.get(call.call_id) is not None for call in taken] == [False, False, True, True]
    assert [calls.get(call.call_id) is not None for call in spawned] == [False, True, True, True]
    assert reading.result() is None
