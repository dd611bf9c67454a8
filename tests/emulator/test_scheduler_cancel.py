"""Cancelling: what waits, what runs, what these have called; also when there is very much of it."""

from __future__ import annotations

import asyncio
import time

import pytest
from modal_proto import api_pb2

from emulator.protocol.containers import HEARTBEAT_HOLD, ContainerHandlers
from emulator.protocol.dispatch import Caller
from tests.emulator.heart_kit import FakeMachine, machine, settle, slot_of, status, succeeded, taken
from tests.emulator.sandboxes_kit import no_sandboxes

__all__ = ["machine"]


@pytest.mark.slow
async def test_a_large_map_is_cancelled_without_holding_up_everyone_else(machine: FakeMachine) -> None:
    pool = machine.deploy()
    call = machine.calls.create("fu-1", kind=api_pb2.FUNCTION_CALL_TYPE_MAP)
    for idx in range(20_000):
        machine.scheduler.submit(call, api_pb2.FunctionInput(), idx)
    before = time.process_time()
    machine.scheduler.cancel(call)
    assert time.process_time() - before < 2.0  # a pass over all of them for each one took half a minute
    assert (call.unfinished, pool.work.pending) == (0, 0)


async def test_cancelling_a_call_cancels_what_its_inputs_have_called(machine: FakeMachine) -> None:
    machine.deploy()
    parent, item = machine.call()
    child = machine.calls.create("fu-1", parent_input_id=item.input_id)
    machine.scheduler.submit(child, api_pb2.FunctionInput(), 0)
    unrelated, _ = machine.call()
    await settle()
    machine.scheduler.cancel(parent)
    assert [status(call) for call in (parent, child, unrelated)] == ["TERMINATED", "TERMINATED", ""]


async def test_a_container_is_told_again_of_what_it_has_been_told_to_let_go_and_still_holds(
    machine: FakeMachine,
) -> None:
    pool = machine.deploy()
    call, _ = machine.call()
    await settle()
    (container,) = machine.started
    item = await taken(pool, container)
    handlers = ContainerHandlers(machine.calls, machine.scheduler, no_sandboxes(machine.clock), machine.clock)
    machine.scheduler.cancel(call)

    async def heartbeat() -> list[str]:
        beat = asyncio.create_task(
            handlers.ContainerHeartbeat(api_pb2.ContainerHeartbeatRequest(), Caller(container.task_id))
        )
        await settle()
        if not beat.done():
            await machine.clock.turn(HEARTBEAT_HOLD)
        return list((await beat).cancel_input_event.input_ids)

    assert await heartbeat() == [item.input_id]
    assert await heartbeat() == [item.input_id]
    pool.work.complete(slot_of(pool, container), succeeded(item))
    assert await heartbeat() == []
