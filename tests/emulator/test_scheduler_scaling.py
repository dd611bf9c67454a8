"""How many containers a pool has, under a clock that the test turns, with containers that are not there."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from modal_proto import api_pb2

from emulator.protocol.autoscaling import AutoscalerHandlers
from emulator.protocol.dispatch import Caller
from emulator.scheduler.leaving import EXIT_GRACE
from emulator.scheduler.limiter import HOLD, StartLimiter
from emulator.state import FunctionRecord
from tests.emulator.heart_kit import FakeMachine, fetch, machine, settle, slot_of, status, succeeded, taken

if TYPE_CHECKING:
    from emulator.scheduler.pool import Pool
    from tests.emulator.heart_kit import FakeContainer

__all__ = ["machine"]

Settings = api_pb2.AutoscalerSettings


def live(machine: FakeMachine) -> list[FakeContainer]:
    return [container for container in machine.started if not container._ended.done()]


async def update(machine: FakeMachine, **settings: int) -> Settings:
    request = api_pb2.FunctionUpdateSchedulingParamsRequest(function_id="fu-1", settings=Settings(**settings))
    handlers = AutoscalerHandlers(machine.state, machine.scheduler)
    return (await handlers.FunctionUpdateSchedulingParams(request, Caller())).current_settings


async def stats(machine: FakeMachine) -> tuple[int, int, int, int]:
    request = api_pb2.FunctionGetCurrentStatsRequest(function_id="fu-1")
    found = await AutoscalerHandlers(machine.state, machine.scheduler).FunctionGetCurrentStats(request, Caller())
    return found.backlog, found.num_total_tasks, found.num_running_inputs, found.input_headroom


async def finish(pool: Pool, container: FakeContainer) -> None:
    """Take an input and be done with it."""
    pool.work.complete(slot_of(pool, container), succeeded(await taken(pool, container)))


async def test_the_place_of_a_container_that_leaves_is_free_when_it_is_gone(machine: FakeMachine) -> None:
    pool = machine.deploy(autoscaler_settings=Settings(max_containers=1, scaledown_window=2))
    machine.call()
    await settle()
    await finish(pool, machine.started[0])
    told = await fetch(pool, machine.started[0])
    await machine.clock.turn(3)
    assert told.result() is None  # it runs its exit handlers now
    call, _ = machine.call()
    await machine.clock.turn(EXIT_GRACE / 2)
    assert len(machine.started) == 1
    machine.started[0].end(0)
    await settle()
    await finish(pool, machine.started[1])
    assert status(call) == "SUCCESS"


async def test_a_lowered_maximum_ends_busy_containers_once_they_have_finished_though_more_waits(
    machine: FakeMachine,
) -> None:
    pool = machine.deploy()
    for _ in range(6):
        machine.call()
    await machine.clock.turn(0.1)
    assert len(machine.started) == 6
    items = [await taken(pool, container) for container in machine.started]
    for _ in range(3):
        machine.call()
    await update(machine, max_containers=2)
    await settle()
    for container, item in zip(machine.started, items, strict=True):
        pool.work.complete(slot_of(pool, container), succeeded(item))
    asked = [await fetch(pool, container) for container in machine.started]
    assert [task.done() and task.result() is None for task in asked].count(True) == 4
    assert pool.work.pending == 1


async def test_a_container_with_many_inputs_that_is_to_leave_has_its_grace_only_after_the_last(
    machine: FakeMachine,
) -> None:
    pool = machine.deploy(max_concurrent_inputs=2, timeout_secs=500)
    machine.call()
    machine.call()
    await settle()
    (container,) = machine.started
    first, second = await taken(pool, container), await taken(pool, container)
    pool.stop(slot_of(pool, container))
    pool.work.complete(slot_of(pool, container), succeeded(first))
    assert (await fetch(pool, container)).result() is None
    await machine.clock.turn(EXIT_GRACE * 3)
    assert not container.killed
    pool.work.complete(slot_of(pool, container), succeeded(second))
    await machine.clock.turn(EXIT_GRACE - 1)
    assert not container.killed
    await machine.clock.turn(2)
    assert container.killed


async def test_the_buffers_starts_are_limited_as_all_others_are(machine: FakeMachine) -> None:
    machine.scheduler._services.limiter._limit = 2
    pool = machine.deploy(autoscaler_settings=Settings(buffer_containers=5))
    machine.call()
    await settle()
    await taken(pool, machine.started[0])
    await machine.clock.turn(0.1)
    assert len(machine.started) == 3


async def test_a_boot_that_takes_long_keeps_no_other_function_from_starting_for_ever(machine: FakeMachine) -> None:
    machine.scheduler._services.limiter._limit = 1
    machine.deploy()
    machine.call()
    machine.call()
    await machine.clock.turn(HOLD - 0.1)
    assert len(machine.started) == 1
    await machine.clock.turn(0.2)
    assert len(machine.started) == 2


async def test_a_start_that_raises_is_tried_again_after_a_second_and_not_before(
    machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = machine.deploy()

    def fail(_: float) -> None:
        pool.touch()
        raise RuntimeError("out of luck")

    monkeypatch.setattr(pool._fleet, "boot", fail)
    machine.call()
    await machine.clock.turn(3.5)
    assert 3 <= sum("out of luck" in line for line in machine.said) <= 5


async def test_a_functions_storm_does_not_keep_another_function_waiting(machine: FakeMachine) -> None:
    machine.scheduler._services.limiter._limit = 1
    machine.deploy()
    other = FunctionRecord("fu-2", "ap-1", "g", definition=api_pb2.Function(function_name="g"), version=1)
    machine.state.functions["fu-2"] = other
    machine.scheduler.published(other)
    for _ in range(10):
        machine.call()
    await machine.clock.turn(0.1)
    machine.scheduler.submit(machine.calls.create("fu-2"), api_pb2.FunctionInput(), 0)
    order = []
    for _ in range(4):
        await machine.clock.turn(0.1)
        place = machine.scheduler.find(machine.started[-1].task_id)
        assert place is not None
        order.append(place[0].record.tag)
        await fetch(place[0], machine.started[-1])
    assert order == ["f", "f", "g", "f"]  # the second f stood in line before g came


def test_places_go_to_who_has_waited_longest_and_who_leaves_the_line_makes_room_in_it() -> None:
    limiter, woken = StartLimiter(1), []
    limiter.begin("ta-1", 0.0)
    assert limiter.free("second", 1.0) == 0
    limiter.wait("second", lambda: woken.append("second"))
    limiter.wait("third", lambda: woken.append("third"))
    limiter.wait("second", lambda: woken.append("again"))
    limiter.end("ta-1")
    assert woken == ["second", "third"]
    assert [limiter.free(name, 1.0) for name in ("third", "new", "second")] == [0, 0, 1]
    limiter.leave("second")
    limiter.leave("second")
    assert woken == ["second", "third", "third"]
    assert [limiter.free(name, 1.0) for name in ("third", "second")] == [1, 0]


def test_a_boot_holds_its_place_for_two_seconds_at_most() -> None:
    limiter = StartLimiter(1)
    limiter.begin("ta-1", 10.0)
    assert limiter.frees_at() == 12.0
    assert [limiter.free("f", now) for now in (11.9, 12.0)] == [0, 1]
    assert limiter.frees_at() is None


async def test_a_function_that_is_gone_stands_in_nobodys_way(machine: FakeMachine) -> None:
    machine.scheduler._services.limiter._limit = 1
    pool = machine.deploy()
    machine.call()
    machine.call()
    await machine.clock.turn(0.1)
    closing = asyncio.create_task(pool.close(grace=0.0))
    await settle()
    assert closing.done()
    assert machine.scheduler._services.limiter.free("another", machine.clock.monotonic()) == 1


async def test_containers_that_die_young_come_back_more_and_more_slowly(machine: FakeMachine) -> None:
    pool = machine.deploy(autoscaler_settings=Settings(min_containers=1))
    for _ in range(300):
        await machine.clock.turn(1)
        for container in live(machine):
            await fetch(pool, container)
            container.end(1)
    assert 8 < len(machine.started) < 25


async def test_one_that_has_done_its_work_and_dies_is_replaced_at_once(machine: FakeMachine) -> None:
    pool = machine.deploy(autoscaler_settings=Settings(min_containers=1))
    for number in range(20):
        machine.call()
        await machine.clock.turn(0.1)
        await finish(pool, machine.started[number])
        machine.started[number].end(-9)
        await settle()
    assert len(machine.started) == 21


async def test_the_minimum_is_kept_while_its_containers_fail_to_start(machine: FakeMachine) -> None:
    pool = machine.deploy(autoscaler_settings=Settings(min_containers=2))
    await settle()
    failure = api_pb2.GenericResult(status=api_pb2.GenericResult.GENERIC_STATUS_FAILURE, exception="no weights")
    for container in list(machine.started):
        pool.boot_failed(slot_of(pool, container), failure)
        container.end(1)
    await machine.clock.turn(5)
    assert len(machine.started) == 4
    for container in live(machine):
        await fetch(pool, container)
    await machine.clock.turn(100)
    assert len(live(machine)) == 2


async def test_a_class_that_lacks_values_for_its_parameters_has_no_minimum_until_it_has_them(
    machine: FakeMachine,
) -> None:
    lacking = api_pb2.ClassParameterInfo(schema=[api_pb2.ClassParameterSpec(name="model", has_default=False)])
    definition = {"class_parameter_info": lacking, "autoscaler_settings": Settings(min_containers=1)}
    pool = machine.deploy(**definition)
    await settle()
    assert not machine.started
    pool.record.serialized_params = b"values"
    machine.deploy(**definition)
    await settle()
    assert len(machine.started) == 1


async def test_what_was_overridden_holds_until_the_next_deploy(machine: FakeMachine) -> None:
    settings = Settings(max_containers=3, scaledown_window=100)
    machine.deploy(autoscaler_settings=settings)
    await update(machine, min_containers=2)
    now = await update(machine, max_containers=4)
    assert (now.min_containers, now.max_containers, now.buffer_containers, now.scaledown_window) == (2, 4, 0, 100)
    await settle()
    assert len(machine.started) == 2
    pool = machine.deploy(autoscaler_settings=settings)
    assert (pool.policy.min_containers, pool.policy.max_containers) == (0, 3)


async def test_a_container_is_listed_with_the_time_at_which_it_had_started(machine: FakeMachine) -> None:
    pool = machine.deploy()
    machine.call()
    await machine.clock.turn(3)
    slot = slot_of(pool, machine.started[0])
    assert slot.booted_at == 0
    await fetch(pool, machine.started[0])
    assert slot.booted_at == slot.created_at + 3


async def test_statistics_count_what_waits_what_runs_and_what_is_there(machine: FakeMachine) -> None:
    pool = machine.deploy(max_concurrent_inputs=3, autoscaler_settings=Settings(max_containers=2))
    assert await stats(machine) == (0, 0, 0, 0)
    for _ in range(7):
        machine.call()
    await settle()
    assert await stats(machine) == (7, 2, 0, 0)
    for _ in range(2):
        await taken(pool, machine.started[0])
    await fetch(pool, machine.started[1])
    assert await stats(machine) == (4, 2, 3, 3)
    pool.stop(slot_of(pool, machine.started[1]))
    assert await stats(machine) == (4, 1, 3, 1)
    machine.started[1].end(0)
    await machine.clock.turn(0.1)
    assert await stats(machine) == (5, 2, 2, 1)
