"""How containers come to be and end when something goes wrong on the way. The clock is turned, nothing is started."""

from __future__ import annotations

import asyncio

import pytest
from modal_proto import api_pb2

from tests.emulator.heart_kit import FakeMachine, machine, settle, slot_of, status, taken

__all__ = ["machine"]


def raises(message: str) -> object:
    async def fail(*_: object) -> None:
        raise RuntimeError(message)

    return fail


async def test_a_start_that_hangs_is_called_off_at_the_startup_timeout(machine: FakeMachine) -> None:
    machine.gate = asyncio.Event()
    pool = machine.deploy(startup_timeout_secs=7)
    call, _ = machine.call()
    await machine.clock.turn(6.9)
    (slot,) = pool.slots.values()
    await machine.clock.turn(0.2)
    assert "startup timeout of 7s" in call.outputs[0].result.exception
    assert slot.task_id in machine.released
    machine.gate.set()
    await settle()
    assert not machine.started


async def test_closing_calls_off_a_start_that_hangs(machine: FakeMachine) -> None:
    machine.gate = asyncio.Event()
    pool = machine.deploy()
    machine.call()
    await settle()
    closing = asyncio.create_task(pool.close(grace=0.0))
    await settle()
    assert closing.done()
    assert not pool.slots


async def test_closing_right_after_the_decision_to_start_starts_nothing(machine: FakeMachine) -> None:
    pool = machine.deploy()
    machine.call()
    pool._tick(machine.clock.monotonic())
    await pool.close(grace=0.0)
    assert not machine.started
    assert not pool.slots


async def test_closing_does_not_wait_for_ever_for_a_container_that_can_not_be_killed(
    machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = machine.deploy()
    machine.call()
    await settle()
    (container,) = machine.started
    monkeypatch.setattr(container, "kill", lambda: None)
    closing = asyncio.create_task(pool.close(grace=0.0))
    await machine.clock.turn(60)
    assert closing.done()
    assert any(container.task_id in line for line in machine.said)


async def test_a_container_killed_before_it_exists_never_does(machine: FakeMachine) -> None:
    machine.gate = asyncio.Event()
    pool = machine.deploy()
    machine.call()
    await settle()
    (slot,) = pool.slots.values()
    pool.kill(slot)
    machine.gate.set()
    await settle()
    assert slot.task_id in machine.released
    assert slot.task_id not in {container.task_id for container in machine.started}


async def test_any_error_while_starting_is_told_to_whoever_waits(
    machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "prepare", raises("no such image"))
    machine.deploy()
    call, _ = machine.call()
    await machine.clock.turn(10)
    assert "no such image" in call.outputs[0].result.exception
    assert any("no such image" in line for line in machine.said)


async def test_a_container_whose_leavings_can_not_be_released_is_gone_all_the_same(
    machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "release", raises("the socket is stuck"))
    pool = machine.deploy()
    machine.call()
    await settle()
    machine.started[0].end(1)
    await settle()
    assert machine.started[0].task_id not in pool.slots
    assert any("the socket is stuck" in line for line in machine.said)


async def test_a_pool_goes_on_deciding_after_an_error_and_says_it(
    machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = machine.deploy(timeout_secs=10)
    call, _ = machine.call()
    await settle()
    (container,) = machine.started
    await taken(pool, container)
    kill = container.kill

    def once() -> None:
        monkeypatch.setattr(container, "kill", kill)
        raise BlockingIOError("try again")

    monkeypatch.setattr(container, "kill", once)
    await machine.clock.turn(16)
    assert any("try again" in line for line in machine.said)
    assert status(call) == "TIMEOUT"
    machine.call()
    await machine.clock.turn(2)
    assert len(machine.started) == 2


async def test_what_a_background_task_of_a_pool_raises_is_said(machine: FakeMachine) -> None:
    pool = machine.deploy()
    fail = raises("out of luck")
    pool._tasks.spawn(fail())  # type: ignore[operator]
    await settle()
    assert any("out of luck" in line for line in machine.said)


async def test_a_second_container_that_fails_to_boot_fails_nobody_while_the_first_one_works(
    machine: FakeMachine,
) -> None:
    pool = machine.deploy()
    machine.call()
    waiting, _ = machine.call()
    await settle()
    first, second = machine.started
    await taken(pool, first)
    refused = api_pb2.GenericResult(status=api_pb2.GenericResult.GENERIC_STATUS_FAILURE, exception="out of memory")
    pool.boot_failed(slot_of(pool, second), refused)
    second.end(1)
    await settle()
    assert status(waiting) == ""
    assert pool.work.pending == 1
