"""Servers and web functions under a clock that the test turns, with containers that are not there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from modal_proto import api_pb2

from emulator.backends import WebFunction, WebServer
from emulator.ingress.base import WebInputFailed
from emulator.protocol.containers import ContainerHandlers
from emulator.protocol.dispatch import Caller
from emulator.scheduler.server_pool import HEALTH_INTERVAL, MOST_FAILURES, ServerPool
from tests.emulator.heart_kit import FakeMachine, machine, settle, slot_of, taken
from tests.emulator.sandboxes_kit import no_sandboxes

if TYPE_CHECKING:
    from tests.emulator.heart_kit import FakeContainer

__all__ = ["machine"]


def server(**settings: int) -> dict[str, object]:
    return {
        "is_server": True,
        "http_config": api_pb2.HTTPConfig(port=8000, startup_timeout=30, exit_grace_period=5),
        "autoscaler_settings": api_pb2.AutoscalerSettings(**settings),
    }


def deploy(machine: FakeMachine, **definition: object) -> ServerPool:
    pool = machine.deploy(**definition)
    assert isinstance(pool, ServerPool)
    return pool


async def booted_server(machine: FakeMachine, pool: ServerPool, index: int) -> FakeContainer:
    await settle()
    container = machine.started[index]
    pool.serving(slot_of(pool, container))
    await settle()
    return container


async def test_a_server_boots_on_demand_takes_requests_once_its_port_accepts_and_leaves_when_idle(
    machine: FakeMachine,
) -> None:
    pool = deploy(machine, **server(scaledown_window=10))
    backend = WebServer(pool.record, machine.scheduler)
    await machine.clock.turn(60)
    assert not machine.started
    backend.demand()
    await settle()
    (container,) = machine.started
    container.accepts = False
    pool.serving(slot_of(pool, container))
    await machine.clock.turn(1)
    assert not backend.targets()
    container.accepts = True
    await machine.clock.turn(1)
    (target,) = backend.targets()
    async with target.track():
        assert target.active == 1
        await machine.clock.turn(60)
        assert not container.terminated
    await machine.clock.turn(9.9)
    assert not container.terminated
    await machine.clock.turn(0.2)
    assert container.terminated
    assert not backend.targets()


async def test_a_server_whose_process_died_is_replaced_on_the_next_demand(machine: FakeMachine) -> None:
    pool = deploy(machine, **server())
    backend = WebServer(pool.record, machine.scheduler)
    backend.demand()
    container = await booted_server(machine, pool, 0)
    container.end(1)
    await machine.clock.turn(5)
    assert not backend.targets()
    assert len(machine.started) == 1
    backend.demand()
    await machine.clock.turn(0.1)
    assert len(machine.started) == 2


async def test_a_server_keeps_its_old_container_until_the_new_version_accepts(machine: FakeMachine) -> None:
    pool = deploy(machine, **server())
    backend = WebServer(pool.record, machine.scheduler)
    backend.demand()
    old = await booted_server(machine, pool, 0)
    deploy(machine, **server())
    await machine.clock.turn(0.1)
    assert [target.task_id for target in backend.targets()] == [old.task_id]
    new = await booted_server(machine, pool, 1)
    assert [target.task_id for target in backend.targets()] == [new.task_id]
    assert old.terminated


async def test_a_leaving_server_finishes_its_requests_within_its_grace_period(machine: FakeMachine) -> None:
    pool = deploy(machine, **server())
    backend = WebServer(pool.record, machine.scheduler)
    backend.demand()
    container = await booted_server(machine, pool, 0)
    (target,) = backend.targets()
    async with target.track():
        pool.stop(slot_of(pool, container))
        await machine.clock.turn(4)
        assert not container.terminated
        assert not backend.targets()
    await settle()
    assert container.terminated


async def test_a_web_request_whose_container_died_after_the_first_byte_is_not_repeated(machine: FakeMachine) -> None:
    pool = machine.deploy()
    backend = WebFunction(pool.record, "", calls=machine.calls, scheduler=machine.scheduler, read_blob=lambda _: b"")
    async with backend.open({"type": "http"}) as request:
        await settle()
        item = await taken(pool, machine.started[0])
        start = api_pb2.Asgi(http_response_start=api_pb2.Asgi.HttpResponseStart(status=200))
        await item.call.data_out.put([api_pb2.DataChunk(data=start.SerializeToString())])
        machine.started[0].end(-9)
        events = []
        with pytest.raises(WebInputFailed, match="terminated by signal"):
            async for batch in request.events():
                events += batch
        assert [event.http_response_start.status for event in events] == [200]
    await machine.clock.turn(1)
    assert len(machine.started) == 1


async def test_a_web_request_that_is_over_is_forgotten_though_its_container_still_holds_it(
    machine: FakeMachine,
) -> None:
    pool = machine.deploy()
    backend = WebFunction(pool.record, "", calls=machine.calls, scheduler=machine.scheduler, read_blob=lambda _: b"")
    async with backend.open({"type": "http"}):
        await settle()
        item = await taken(pool, machine.started[0])
        assert machine.calls.get(item.call.call_id) is item.call
    assert machine.calls.get(item.call.call_id) is None
    handlers = ContainerHandlers(machine.calls, machine.scheduler, no_sandboxes(machine.clock), machine.clock)
    container = Caller(machine.started[0].task_id)
    wanted = api_pb2.FunctionCallGetDataRequest(function_call_id=item.call.call_id)
    assert [chunk async for chunk in handlers.FunctionCallGetDataIn(wanted, container)] == []
    late = api_pb2.FunctionCallPutDataRequest(
        function_call_id=item.call.call_id, data_chunks=[api_pb2.DataChunk(data=b"late")]
    )
    await handlers.FunctionCallPutDataOut(late, container)
    assert item.call.data_out.last_index == 0


async def test_a_web_request_that_is_given_up_is_cancelled_in_its_container(machine: FakeMachine) -> None:
    pool = machine.deploy()
    backend = WebFunction(pool.record, "", calls=machine.calls, scheduler=machine.scheduler, read_blob=lambda _: b"")
    async with backend.open({"type": "http"}):
        await settle()
        item = await taken(pool, machine.started[0])
    assert slot_of(pool, machine.started[0]).take_cancellations() == [item.input_id]


async def test_a_server_whose_port_closed_for_good_is_killed_and_one_that_came_back_is_not(
    machine: FakeMachine,
) -> None:
    pool = deploy(machine, **server(min_containers=1))
    container = await booted_server(machine, pool, 0)
    container.accepts = False
    await machine.clock.turn(HEALTH_INTERVAL * (MOST_FAILURES - 1))
    container.accepts = True
    await machine.clock.turn(HEALTH_INTERVAL)
    container.accepts = False
    await machine.clock.turn(HEALTH_INTERVAL * (MOST_FAILURES - 1))
    assert not container.killed
    await machine.clock.turn(HEALTH_INTERVAL)
    assert container.killed


async def test_a_server_without_a_target_is_one_container_however_many_requests_it_may_take(
    machine: FakeMachine,
) -> None:
    pool = deploy(machine, max_concurrent_inputs=1, **server())
    backend = WebServer(pool.record, machine.scheduler)
    backend.demand()
    await booted_server(machine, pool, 0)
    (target,) = backend.targets()
    async with target.track(), target.track():
        await machine.clock.turn(10)
        assert len(machine.started) == 1


async def test_sessions_that_wait_start_as_many_containers_as_they_fill(machine: FakeMachine) -> None:
    pool = deploy(machine, is_sessioned=True, max_concurrent_inputs=2, **server(max_containers=5))
    backend = WebServer(pool.record, machine.scheduler)
    with backend.queued(), backend.queued(), backend.queued():
        await machine.clock.turn(5)
        for index in range(2):
            await booted_server(machine, pool, index)
        await machine.clock.turn(5)
        assert len(machine.started) == 2


async def test_a_container_with_a_session_outlives_a_redeploy_until_the_session_has_ended(machine: FakeMachine) -> None:
    pool = deploy(machine, is_sessioned=True, **server())
    backend = WebServer(pool.record, machine.scheduler)
    backend.demand()
    old = await booted_server(machine, pool, 0)
    (target,) = backend.targets()
    async with target.track():
        deploy(machine, is_sessioned=True, **server())
        await machine.clock.turn(0.1)
        new = await booted_server(machine, pool, 1)
        await machine.clock.turn(40)
        assert [one.task_id for one in backend.targets()] == [new.task_id]
        assert backend.serves(old.task_id)
        assert not old.terminated
    await settle()
    assert old.terminated
    assert not backend.serves(old.task_id)
