"""Pools under a clock that the test turns, with containers that are not there."""

from __future__ import annotations

import asyncio

import pytest
from modal_proto import api_pb2

from emulator.scheduler.boots import BOOT_ATTEMPTS
from emulator.scheduler.leaving import EXIT_GRACE
from tests.emulator.heart_kit import FakeMachine, failed, fetch, machine, settle, slot_of, status, succeeded, taken

__all__ = ["machine"]


async def test_an_input_boots_a_container_is_done_by_it_and_the_idle_container_leaves_after_its_window(
    machine: FakeMachine,
) -> None:
    pool = machine.deploy(autoscaler_settings=api_pb2.AutoscalerSettings(scaledown_window=20))
    call, _ = machine.call()
    await settle()
    (container,) = machine.started
    item = await taken(pool, container)
    pool.work.complete(slot_of(pool, container), succeeded(item))
    assert status(call) == "SUCCESS"
    told = await fetch(pool, container)
    await machine.clock.turn(19.9)
    assert not told.done()
    await machine.clock.turn(0.2)
    assert told.result() is None  # the kill switch
    container.end()
    await settle()
    assert not pool.slots
    assert machine.released == [container.task_id]


async def test_a_container_that_ignores_the_order_to_leave_is_killed(machine: FakeMachine) -> None:
    pool = machine.deploy(autoscaler_settings=api_pb2.AutoscalerSettings(scaledown_window=5))
    _, _ = machine.call()
    await settle()
    (container,) = machine.started
    pool.work.complete(slot_of(pool, container), succeeded(await taken(pool, container)))
    await fetch(pool, container)
    await machine.clock.turn(5 + EXIT_GRACE - 1)
    assert not container.killed
    await machine.clock.turn(2)
    assert container.killed


async def test_the_input_of_a_container_that_died_goes_to_another(machine: FakeMachine) -> None:
    pool = machine.deploy()
    call, _ = machine.call()
    await settle()
    first = await taken(pool, machine.started[0])
    assert first.retry_count == 0
    machine.started[0].end(-9)
    await settle()
    again = await taken(pool, machine.started[1])
    assert again.input_id == first.input_id
    assert again.retry_count == 1
    pool.work.complete(slot_of(pool, machine.started[1]), succeeded(again))
    assert status(call) == "SUCCESS"


async def test_an_input_that_kills_eight_containers_is_given_up(machine: FakeMachine) -> None:
    pool = machine.deploy()
    call, _ = machine.call()
    for attempt in range(8):
        assert status(call) == ""
        await machine.clock.turn(40)
        await taken(pool, machine.started[attempt])
        machine.started[attempt].end(1)
        await settle()
    assert status(call) == "INTERNAL_FAILURE"
    assert "exit code 1" in call.outputs[0].result.exception


async def test_failures_are_retried_as_the_policy_says_and_on_the_clock(machine: FakeMachine) -> None:
    policy = api_pb2.FunctionRetryPolicy(retries=2, initial_delay_ms=1000, backoff_coefficient=2.0, max_delay_ms=60_000)
    pool = machine.deploy(retry_policy=policy)
    call, _ = machine.call()
    await settle()
    container = machine.started[0]
    for delay in (1.0, 2.0):
        pool.work.complete(slot_of(pool, container), failed(await taken(pool, container)))
        await machine.clock.turn(delay - 0.1)
        assert not pool.work.pending
        await machine.clock.turn(0.2)
        assert pool.work.pending == 1
    pool.work.complete(slot_of(pool, container), failed(await taken(pool, container)))
    await machine.clock.turn(10)
    assert status(call) == "FAILURE"


async def test_an_input_over_its_time_ends_as_timeout_and_its_container_is_told(machine: FakeMachine) -> None:
    pool = machine.deploy(timeout_secs=10)
    call, _ = machine.call()
    await settle()
    container = machine.started[0]
    item = await taken(pool, container)
    await machine.clock.turn(9.9)
    assert status(call) == ""
    await machine.clock.turn(0.2)
    assert status(call) == "TIMEOUT"
    assert slot_of(pool, container).take_cancellations() == [item.input_id]
    assert not container.killed
    await machine.clock.turn(6)
    assert container.killed


async def test_a_late_outcome_of_an_attempt_that_was_given_up_is_not_heard(machine: FakeMachine) -> None:
    pool = machine.deploy(timeout_secs=10)
    call, _ = machine.call()
    await settle()
    container = machine.started[0]
    item = await taken(pool, container)
    await machine.clock.turn(11)
    pool.work.complete(slot_of(pool, container), succeeded(item))
    assert status(call) == "TIMEOUT"
    assert slot_of(pool, container).active == 0


async def test_cancelling_ends_a_waiting_input_and_tells_the_container_of_a_running_one(machine: FakeMachine) -> None:
    pool = machine.deploy(autoscaler_settings=api_pb2.AutoscalerSettings(max_containers=1))
    running, _ = machine.call()
    waiting, _ = machine.call()
    await settle()
    container = machine.started[0]
    item = await taken(pool, container)
    machine.scheduler.cancel(waiting)
    machine.scheduler.cancel(running)
    assert (status(waiting), status(running)) == ("TERMINATED", "TERMINATED")
    assert not pool.work.pending
    assert slot_of(pool, container).take_cancellations() == [item.input_id]


async def test_an_import_that_fails_is_told_to_whoever_waits_and_not_tried_for_ever(machine: FakeMachine) -> None:
    pool = machine.deploy()
    call, _ = machine.call()
    result = api_pb2.GenericResult(status=api_pb2.GenericResult.GENERIC_STATUS_FAILURE, exception="ModuleNotFoundError")
    for attempt in range(BOOT_ATTEMPTS):
        assert status(call) == ""
        await machine.clock.turn(1)
        pool.boot_failed(slot_of(pool, machine.started[attempt]), result)
        machine.started[attempt].end(0)
        await settle()
    assert status(call) == "FAILURE"
    assert call.outputs[0].result.exception == "ModuleNotFoundError"
    await machine.clock.turn(60)
    assert len(machine.started) == BOOT_ATTEMPTS


async def test_an_import_that_fails_once_is_nobodys_failure(machine: FakeMachine) -> None:
    pool = machine.deploy()
    call, _ = machine.call()
    await settle()
    result = api_pb2.GenericResult(status=api_pb2.GenericResult.GENERIC_STATUS_FAILURE, exception="OSError")
    pool.boot_failed(slot_of(pool, machine.started[0]), result)
    machine.started[0].end(0)
    await machine.clock.turn(1)
    pool.work.complete(slot_of(pool, machine.started[1]), succeeded(await taken(pool, machine.started[1])))
    assert status(call) == "SUCCESS"


async def test_boots_that_die_silently_are_spaced_out_and_then_told(machine: FakeMachine) -> None:
    machine.deploy()
    call, _ = machine.call()
    await settle()
    machine.started[0].end(1)
    await machine.clock.turn(0.2)
    assert len(machine.started) == 1
    await machine.clock.turn(0.1)
    machine.started[1].end(1)
    await machine.clock.turn(0.4)
    assert len(machine.started) == 2
    await machine.clock.turn(0.2)
    machine.started[2].end(1)
    await settle()
    assert status(call) == "INTERNAL_FAILURE"


async def test_a_machine_that_cannot_start_containers_says_so(machine: FakeMachine) -> None:
    machine.refuse = "no forks left"
    machine.deploy()
    call, _ = machine.call()
    await machine.clock.turn(10)
    assert "no forks left" in call.outputs[0].result.exception
    assert any("no forks left" in line for line in machine.said)


async def test_a_container_that_does_not_boot_in_its_time_is_killed(machine: FakeMachine) -> None:
    machine.deploy(startup_timeout_secs=7)
    call, _ = machine.call()
    await machine.clock.turn(6.9)
    assert not machine.started[0].killed
    await machine.clock.turn(0.2)
    assert machine.started[0].killed
    assert "startup timeout of 7s" in call.outputs[0].result.exception


async def test_no_more_containers_boot_at_once_than_the_machine_allows(machine: FakeMachine) -> None:
    machine.scheduler._services.limiter._limit = 2
    pool = machine.deploy()
    for _ in range(5):
        machine.call()
    await settle()
    assert len(machine.started) == 2
    await taken(pool, machine.started[0])
    await machine.clock.turn(0.1)
    assert len(machine.started) == 3


async def test_after_a_redeploy_the_old_container_finishes_and_new_inputs_go_to_a_new_one(machine: FakeMachine) -> None:
    pool = machine.deploy()
    old_call, _ = machine.call()
    await settle()
    old = machine.started[0]
    item = await taken(pool, old)
    machine.deploy()
    new_call, _ = machine.call()
    await machine.clock.turn(0.1)
    new = machine.started[1]
    await taken(pool, new)
    assert status(old_call) == ""
    assert not old.killed
    pool.work.complete(slot_of(pool, old), succeeded(item))
    assert status(old_call) == "SUCCESS"
    assert (await fetch(pool, old)).result() is None
    assert status(new_call) == ""


async def test_an_idle_container_of_the_old_version_gets_no_new_input(machine: FakeMachine) -> None:
    pool = machine.deploy()
    machine.call()
    await settle()
    old = machine.started[0]
    pool.work.complete(slot_of(pool, old), succeeded(await taken(pool, old)))
    waiting = await fetch(pool, old)
    machine.deploy()
    machine.call()
    await settle()
    assert waiting.result() is None
    assert len(machine.started) == 2


async def test_an_outcome_that_is_sent_twice_counts_once(machine: FakeMachine) -> None:
    pool = machine.deploy(retry_policy=api_pb2.FunctionRetryPolicy(retries=1, backoff_coefficient=1.0))
    call, _ = machine.call()
    await settle()
    container = machine.started[0]
    outcome = failed(await taken(pool, container))
    pool.work.complete(slot_of(pool, container), outcome)
    await machine.clock.turn(1)
    again = await taken(pool, container)
    pool.work.complete(slot_of(pool, container), outcome)
    assert status(call) == ""
    pool.work.complete(slot_of(pool, container), succeeded(again))
    assert status(call) == "SUCCESS"


async def test_min_containers_are_there_without_demand_and_replaced_when_they_die(machine: FakeMachine) -> None:
    pool = machine.deploy(autoscaler_settings=api_pb2.AutoscalerSettings(min_containers=1, scaledown_window=2))
    await settle()
    (container,) = machine.started
    await fetch(pool, container)
    await machine.clock.turn(100)
    assert not container.killed
    container.end(1)
    await machine.clock.turn(0.1)
    assert len(machine.started) == 2


async def test_stopping_an_app_ends_what_waits_what_runs_and_what_is_about_to_be_tried_again(
    machine: FakeMachine,
) -> None:
    policy = api_pb2.FunctionRetryPolicy(retries=1, initial_delay_ms=60_000, backoff_coefficient=1.0)
    settings = api_pb2.AutoscalerSettings(max_containers=1)
    pool = machine.deploy(retry_policy=policy, autoscaler_settings=settings)
    retried, _ = machine.call()
    running, _ = machine.call()
    waiting, _ = machine.call()
    await settle()
    container = machine.started[0]
    pool.work.complete(slot_of(pool, container), failed(await taken(pool, container)))
    await taken(pool, container)
    stopping = asyncio.create_task(machine.scheduler.stop_app(machine.app))
    await settle()
    assert container.interrupted
    assert not container.killed
    await machine.clock.turn(31)
    await stopping
    assert container.killed
    assert [status(call) for call in (retried, running, waiting)] == ["TERMINATED"] * 3
    late, _ = machine.call()
    assert status(late) == "TERMINATED"
    assert len(machine.started) == 1


async def test_waiting_for_a_killed_container_to_end_costs_nothing(
    machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = machine.deploy(startup_timeout_secs=5)
    machine.call()
    await settle()
    container = machine.started[0]
    monkeypatch.setattr(container, "kill", lambda: None)
    ticks = []
    monkeypatch.setattr(
        pool._fleet, "enforce", lambda now, enforce=pool._fleet.enforce: ticks.append(now) or enforce(now)
    )
    await machine.clock.turn(60)
    assert len(ticks) < 20
    container.end(-9)


async def test_an_output_after_retries_is_as_the_first_to_a_client_that_has_made_none(machine: FakeMachine) -> None:
    """In a map the client ignores an output whose count of retries is not its own."""
    pool = machine.deploy(retry_policy=api_pb2.FunctionRetryPolicy(retries=1))
    call, _ = machine.call()
    await settle()
    container = machine.started[0]
    pool.work.complete(slot_of(pool, container), failed(await taken(pool, container)))
    await machine.clock.turn(1)
    again = await taken(pool, container)
    assert again.retry_count == 1
    pool.work.complete(slot_of(pool, container), succeeded(again))
    assert call.outputs[0].retry_count == 0
