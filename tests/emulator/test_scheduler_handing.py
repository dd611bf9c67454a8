"""Inputs on their way to a container, and pools that come and go. The clock is turned, containers are not there."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import pytest
from modal_proto import api_pb2

from emulator.protocol.containers import ContainerHandlers
from emulator.protocol.dispatch import Caller, Dispatcher
from emulator.state import FunctionRecord
from tests.emulator.heart_kit import FakeMachine, machine, settle, slot_of, status, succeeded, taken
from tests.emulator.sandboxes_kit import no_sandboxes

if TYPE_CHECKING:
    from grpclib.server import Stream

    from emulator.scheduler.pool import Pool

__all__ = ["machine"]


async def test_inputs_of_a_batch_whose_request_is_cut_are_next_in_line_again(machine: FakeMachine) -> None:
    pool = machine.deploy(batch_max_size=3)
    machine.call()
    await settle()
    (container,) = machine.started
    slot = slot_of(pool, container)
    asking = asyncio.create_task(pool.next_inputs(slot, batch=3, linger=5.0))
    await settle()
    assert (slot.active, pool.work.pending) == (1, 0)
    asking.cancel()
    await settle()
    assert (slot.active, pool.work.pending) == (0, 1)
    again = await taken(pool, container)
    assert again.retry_count == 0


class CutStream:
    """A container's request whose connection breaks before the answer."""

    async def recv_message(self) -> api_pb2.FunctionGetInputsRequest:
        return api_pb2.FunctionGetInputsRequest()

    async def send_message(self, _: object) -> None:
        raise ConnectionResetError


async def test_an_input_whose_answer_could_not_be_sent_is_next_in_line_again(machine: FakeMachine) -> None:
    pool = machine.deploy()
    first, item = machine.call()
    await settle()
    (container,) = machine.started
    dispatcher = Dispatcher(
        [ContainerHandlers(machine.calls, machine.scheduler, no_sandboxes(machine.clock), machine.clock)],
        machine.said.append,
    )
    route = dispatcher.servable(Caller(container.task_id)).__mapping__()["/modal.client.ModalClient/FunctionGetInputs"]
    with pytest.raises(ConnectionResetError):
        await route.func(cast("Stream[object, object]", CutStream()))
    assert slot_of(pool, container).active == 0
    again = await taken(pool, container)
    assert again is item
    pool.work.complete(slot_of(pool, container), succeeded(again))
    assert status(first) == "SUCCESS"


def bind(machine: FakeMachine, function_id: str, **definition: object) -> FunctionRecord:
    record = FunctionRecord(function_id, "ap-1", "f", base_function_id="fu-1")
    record.definition = api_pb2.Function(function_name="f", **definition)  # type: ignore[arg-type]
    machine.state.functions[function_id] = record
    machine.scheduler.published(record)
    return record


def call(machine: FakeMachine, function_id: str) -> Pool:
    machine.scheduler.submit(machine.calls.create(function_id), api_pb2.FunctionInput(), 0)
    pool = machine.scheduler.pool(function_id)
    assert pool is not None
    return pool


async def test_bound_parameters_have_a_pool_only_while_there_is_something_to_do(machine: FakeMachine) -> None:
    for number in range(100):
        bind(machine, f"fu-bound-{number}", autoscaler_settings=api_pb2.AutoscalerSettings(scaledown_window=5))
    await settle()
    assert machine.scheduler.pools == []
    for _ in range(2):
        pool = call(machine, "fu-bound-7")
        await machine.clock.turn(0.1)
        container = machine.started[-1]
        assert machine.scheduler.find(container.task_id) == (pool, slot_of(pool, container))
        pool.work.complete(slot_of(pool, container), succeeded(await taken(pool, container)))
        assert machine.scheduler.pools == [pool]
        await machine.clock.turn(60)
        assert machine.scheduler.pools == []
        assert machine.scheduler.find(container.task_id) is None
    assert len(machine.started) == 2


async def test_a_bound_function_that_is_to_have_containers_always_keeps_its_pool(machine: FakeMachine) -> None:
    bind(machine, "fu-bound", autoscaler_settings=api_pb2.AutoscalerSettings(min_containers=1))
    await settle()
    assert len(machine.started) == 1
    assert len(machine.scheduler.pools) == 1


async def test_a_bound_function_of_a_stopped_app_does_not_come_back(machine: FakeMachine) -> None:
    bind(machine, "fu-bound")
    await settle()
    await machine.scheduler.stop_app(machine.app)
    late = machine.calls.create("fu-bound")
    machine.scheduler.submit(late, api_pb2.FunctionInput(), 0)
    assert status(late) == "TERMINATED"
