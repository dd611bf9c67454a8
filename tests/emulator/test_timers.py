"""The timer of scheduled functions, under a clock that is turned."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from modal_proto import api_pb2

from emulator.state import FunctionRecord
from tests.emulator.heart_kit import machine as machine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.emulator.heart_kit import FakeMachine

HOUR = 3600.0


@asynccontextmanager
async def kept(machine: FakeMachine) -> AsyncIterator[None]:
    keeping = asyncio.create_task(machine.scheduler.timers.keep())
    try:
        yield
    finally:
        keeping.cancel()


def scheduled(machine: FakeMachine, schedule: api_pb2.Schedule | None) -> FunctionRecord:
    """Deploy `f` (again) with that schedule."""
    machine.deploy(schedule=schedule)
    record = machine.state.functions["fu-1"]
    machine.scheduler.timers.follow([record], since=machine.clock.time())
    return record


def every(**parts: int) -> api_pb2.Schedule:
    return api_pb2.Schedule(period=api_pb2.Schedule.Period(**parts))


def cron(line: str) -> api_pb2.Schedule:
    return api_pb2.Schedule(cron=api_pb2.Schedule.Cron(cron_string=line, timezone="UTC"))


async def test_what_fell_due_while_no_emulator_ran_is_told_and_not_run(machine: FakeMachine) -> None:
    async with kept(machine):
        scheduled(machine, every(hours=1))
        timers, deployed = machine.scheduler.timers, machine.clock.time()
        ran: list[float] = []
        timers.ran = lambda _record, at: ran.append(at)
        await machine.clock.turn(HOUR)
        assert timers.missed("fu-1", ran=ran[-1]) is None
        record = machine.state.functions["fu-1"]
        timers.drop(["fu-1"])  # as when an emulator ends
        await machine.clock.turn(2.5 * HOUR)
        timers.follow([record], since=deployed)
        assert timers.missed("fu-1", ran=ran[-1]) == deployed + 2 * HOUR
        assert runs(machine) == 1
        await machine.clock.turn(HOUR / 2)
        assert runs(machine) == 2
        assert timers.missed("fu-2", ran=0.0) is None


def runs(machine: FakeMachine) -> int:
    """How often it has been called. (Nobody works on it here: its containers never get ready.)"""
    return len(machine.calls._calls)


async def test_a_function_runs_each_time_that_its_period_has_passed(machine: FakeMachine) -> None:
    async with kept(machine):
        scheduled(machine, every(hours=1))
        await machine.clock.turn(HOUR - 1)
        assert runs(machine) == 0
        await machine.clock.turn(1)
        assert runs(machine) == 1
        await machine.clock.turn(2 * HOUR)
        assert runs(machine) == 3


async def test_it_is_called_without_arguments_by_nobody(machine: FakeMachine) -> None:
    async with kept(machine):
        scheduled(machine, every(hours=1))
        await machine.clock.turn(HOUR)
        pool = machine.scheduler.pool("fu-1")
        assert pool is not None
        [item] = pool.work._pending
        assert item.payload == api_pb2.FunctionInput(data_format=api_pb2.DATA_FORMAT_PICKLE)
        assert item.call.invocation == api_pb2.FUNCTION_CALL_INVOCATION_TYPE_ASYNC
        assert not item.call.parent_input_id


async def test_deploying_again_starts_a_period_anew_and_leaves_a_cron_line_alone(machine: FakeMachine) -> None:
    async with kept(machine):  # the clock starts at 1970-01-01 00:16:40
        scheduled(machine, every(hours=1))
        await machine.clock.turn(0.75 * HOUR)
        scheduled(machine, every(hours=1))
        await machine.clock.turn(0.75 * HOUR)
        assert runs(machine) == 0
        scheduled(machine, cron("0 * * * *"))
        [timer] = machine.scheduler.timers.all
        before = timer.next_at
        await machine.clock.turn(60)
        scheduled(machine, cron("0 * * * *"))
        [timer] = machine.scheduler.timers.all
        assert timer.next_at == before


async def test_a_schedule_ends_with_the_deployment_that_has_none_and_with_the_app(machine: FakeMachine) -> None:
    async with kept(machine):
        scheduled(machine, every(hours=1))
        scheduled(machine, None)
        assert machine.scheduler.timers.all == []
        scheduled(machine, every(hours=1))
        machine.app.function_ids["f"] = "fu-1"
        stopping = asyncio.create_task(machine.scheduler.stop_app(machine.app))
        await machine.clock.turn(30)
        await stopping
        assert machine.scheduler.timers.all == []


async def test_runs_that_a_sleeping_machine_has_missed_are_one(machine: FakeMachine) -> None:
    async with kept(machine):
        scheduled(machine, cron("*/10 * * * *"))
        await machine.clock.turn(0)
        machine.clock.time = lambda: machine.clock.monotonic() + 5 * HOUR  # type: ignore[method-assign]
        await machine.clock.turn(60)
        assert runs(machine) == 1


async def test_one_function_that_cannot_be_run_does_not_stop_the_others(machine: FakeMachine) -> None:
    async with kept(machine):
        unknown = FunctionRecord("fu-2", "ap-1", "g", api_pb2.Function(schedule=every(minutes=1)))
        broken = FunctionRecord("fu-3", "ap-1", "h", api_pb2.Function(schedule=cron("nonsense")))
        record = scheduled(machine, every(minutes=1))
        machine.scheduler.timers.follow([unknown, broken, record], since=machine.clock.time())
        await machine.clock.turn(60)
        assert {call.function_id for call in machine.calls._calls.values()} == {"fu-1", "fu-2"}
        assert any("h: Cron('nonsense')" in line for line in machine.said)
