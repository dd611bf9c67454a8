"""Calls and their outputs, without containers."""

from __future__ import annotations

import asyncio

import pytest
from modal_proto import api_pb2

import emulator.scheduler.retention as module
from emulator.scheduler.calls import GATHER_SECONDS, Call, Calls, Input, failure
from tests.emulator.heart_kit import TurnedClock, settle


def output() -> api_pb2.FunctionGetOutputsItem:
    return api_pb2.FunctionGetOutputsItem(
        result=api_pb2.GenericResult(status=api_pb2.GenericResult.GENERIC_STATUS_SUCCESS)
    )


def put(calls: Calls, call: Call, count: int) -> list[Input]:
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


async def test_outputs_of_a_map_that_goes_on_are_gathered_a_moment_but_the_first_and_the_last_are_not_held() -> None:
    clock = TurnedClock()
    calls = Calls(clock)
    call = calls.create("fu-1", kind=api_pb2.FUNCTION_CALL_TYPE_MAP)
    inputs = put(calls, call, 4)

    def asked(last_entry_id: str) -> asyncio.Task[api_pb2.FunctionGetOutputsResponse]:
        request = api_pb2.FunctionGetOutputsRequest(last_entry_id=last_entry_id, timeout=55)
        return asyncio.create_task(calls.outputs(call, request))

    calls.finish(inputs[0], output())
    first = asked("0-0")
    await settle()
    assert [item.idx for item in first.result().outputs] == [0]
    calls.finish(inputs[1], output())
    second = asked(first.result().last_entry_id)
    await settle()
    calls.finish(inputs[2], output())
    assert not second.done()
    await clock.turn(GATHER_SECONDS)
    assert [item.idx for item in second.result().outputs] == [1, 2]
    calls.finish(inputs[3], output())
    last = asked(second.result().last_entry_id)
    await settle()
    assert [item.idx for item in last.result().outputs] == [3]


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


def test_what_the_client_is_told_of_an_input_does_not_depend_on_how_often_it_was_tried() -> None:
    calls = Calls(TurnedClock())
    call = calls.create("fu-1", kind=api_pb2.FUNCTION_CALL_TYPE_MAP)
    (item,) = put(calls, call, 1)
    item.retry_count = 2
    calls.finish(item, output())
    assert call.outputs[0].retry_count == 0  # the client, which retries nothing itself, ignores all others


async def test_an_input_has_one_outcome() -> None:
    calls = Calls(TurnedClock())
    call = calls.create("fu-1")
    (item,) = put(calls, call, 1)
    calls.finish(item, output())
    calls.finish(item, failure(api_pb2.GenericResult.GENERIC_STATUS_TIMEOUT, "late"))
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


async def test_calls_whose_caller_never_comes_for_the_outputs_are_forgotten_too_but_not_while_they_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "UNCLAIMED_CALLS_KEPT", 2)
    calls = Calls(TurnedClock())
    going_on = calls.create("fu-1", kind=api_pb2.FUNCTION_CALL_TYPE_MAP)
    calls.finish(put(calls, going_on, 1)[0], output())
    calls.add_input(going_on, api_pb2.FunctionInput(), 1)
    abandoned = [calls.create("fu-1") for _ in range(4)]
    for call in abandoned:
        calls.finish(put(calls, call, 1)[0], output())
    assert [calls.get(call.call_id) is not None for call in abandoned] == [False, False, True, True]
    assert calls.get(going_on.call_id) is going_on
    await calls.outputs(abandoned[2], api_pb2.FunctionGetOutputsRequest(start_idx=0, end_idx=0))
    calls.finish(put(calls, calls.create("fu-1"), 1)[0], output())
    assert [calls.get(call.call_id) is not None for call in abandoned[2:]] == [True, False]


async def test_what_is_kept_of_finished_calls_is_bounded_by_bytes_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_BYTES", 10_000)
    calls = Calls(TurnedClock())
    made = [calls.create("fu-1", invocation=api_pb2.FUNCTION_CALL_INVOCATION_TYPE_ASYNC) for _ in range(3)]
    for call in made:
        answer = output()
        answer.result.data = bytes(4000)
        calls.finish(put(calls, call, 1)[0], answer)
    assert [calls.get(call.call_id) is not None for call in made] == [False, True, True]


async def test_what_is_on_disk_for_finished_calls_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_BLOB_BYTES", 10_000)
    gone: list[str] = []
    calls = Calls(TurnedClock(), discard_blob=gone.append, blob_size=lambda _: 4000)
    made = [calls.create("fu-1") for _ in range(3)]
    for number, call in enumerate(made):
        item = calls.add_input(call, api_pb2.FunctionInput(args_blob_id=f"bl-{number}"), 0)
        assert gone == []
        calls.finish(item, output())
    assert gone == ["bl-0"]
    assert [calls.get(call.call_id) is not None for call in made] == [False, True, True]


async def test_a_result_expires_seven_days_after_the_calls_completion_and_what_it_was_stays_known() -> None:
    clock = TurnedClock()
    calls = Calls(clock)
    call = calls.create("fu-1", invocation=api_pb2.FUNCTION_CALL_INVOCATION_TYPE_ASYNC)
    (item,) = put(calls, call, 1)
    await clock.turn(8 * 24 * 3600)  # it may take its time
    calls.finish(item, output())
    await clock.turn(7 * 24 * 3600)
    assert calls.get(call.call_id) is call
    await clock.turn(1)
    assert calls.get(call.call_id) is None
    expired = calls.expired(call.call_id)
    assert expired is not None
    info = api_pb2.FunctionCallInfo.FromString(expired.info)
    assert (expired.function_id, info.total_inputs, info.succeeded_inputs.total) == ("fu-1", 1, 1)
    assert calls.expired("fc-unknown") is None


async def test_a_map_that_gets_another_input_is_not_finished_any_more() -> None:
    clock = TurnedClock()
    calls = Calls(clock)
    call = calls.create("fu-1", kind=api_pb2.FUNCTION_CALL_TYPE_MAP)
    calls.finish(put(calls, call, 1)[0], output())
    calls.add_input(call, api_pb2.FunctionInput(), 1)
    await clock.turn(30 * 24 * 3600)
    assert calls.get(call.call_id) is call


def test_an_input_that_is_done_does_not_keep_its_arguments() -> None:
    calls = Calls(TurnedClock())
    item = calls.add_input(calls.create("fu-1"), api_pb2.FunctionInput(args=bytes(1000)), 0)
    assert item.payload.args
    calls.finish(item, output())
    assert not item.payload.args


def test_the_calls_that_an_input_made_are_found_until_they_are_forgotten() -> None:
    calls = Calls(TurnedClock())
    made = [calls.create("fu-1", parent_input_id="in-1") for _ in range(2)]
    other = calls.create("fu-1", parent_input_id="in-2")
    assert calls.children("in-1") == made
    calls.forget(made[0].call_id)
    assert (calls.children("in-1"), calls.children("in-2")) == (made[1:], [other])
    assert calls.children("in-3") == []


def test_the_calls_of_an_app_that_has_stopped_are_kept_for_a_while_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FINISHED_CALLS_KEPT", 1)
    calls = Calls(TurnedClock())
    stopped = [calls.create("fu-1") for _ in range(3)]
    other = calls.create("fu-2")
    calls.orphaned(frozenset({"fu-1"}))
    assert [calls.get(call.call_id) is not None for call in (*stopped, other)] == [False, False, True, True]


async def test_a_calls_blobs_go_with_it_and_no_sooner() -> None:
    gone: list[str] = []
    calls = Calls(TurnedClock(), discard_blob=gone.append)
    call, other = calls.create("fu-1"), calls.create("fu-1")
    calls.add_input(other, api_pb2.FunctionInput(args_blob_id="bl-other"), 0)
    item = calls.add_input(call, api_pb2.FunctionInput(args_blob_id="bl-in"), 0)
    await call.data_in.put([api_pb2.DataChunk(data_blob_id="bl-body"), api_pb2.DataChunk(data=b"small")])
    await call.data_out.put([api_pb2.DataChunk(data_blob_id="bl-yielded")])
    result = output()
    result.result.data_blob_id = "bl-out"
    calls.finish(item, result)
    calls.taken(call)  # its client has the id, and asks for the blob only now
    assert gone == []
    calls.forget(call.call_id)
    assert sorted(gone) == ["bl-body", "bl-in", "bl-out", "bl-yielded"]
