"""The scheduler in virtual time: what takes minutes, hours or a day happens at its moment, and at no other.

Containers take a random moment of real time for every step here, so that whoever did not wait for one of them is found
out: see test_virtual_clock_repeated.py.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from modal_proto import api_pb2

from emulator.virtual_clock import NotQuietError, VirtualClock
from tests.emulator.heart_kit import status
from tests.emulator.virtual_kit import NOON, VirtualMachine, Worker, virtual_machine

HOUR = timedelta(hours=1)


def cron(line: str, zone: str = "UTC") -> api_pb2.Schedule:
    return api_pb2.Schedule(cron=api_pb2.Schedule.Cron(cron_string=line, timezone=zone))


def schedule(machine: VirtualMachine, schedule: api_pb2.Schedule, **definition: object) -> None:
    machine.deploy(schedule=schedule, **definition)
    machine.scheduler.timers.follow([machine.state.functions["fu-1"]], since=machine.clock.time())


def runs(machine: VirtualMachine) -> list[datetime]:
    return [moment for _, moment in machine.began]


async def test_a_day_of_an_hourly_cron_is_24_runs_on_the_hour() -> None:
    async with virtual_machine() as machine:
        schedule(machine, cron("0 * * * *"))
        await machine.advance("1d")
        assert runs(machine) == [NOON + HOUR * number for number in range(1, 25)]
        assert machine.there == 1, "the last of them may still be used"
        await machine.advance("1m")
        assert machine.there == 0


async def test_a_day_on_which_the_clocks_go_forward_has_23_hours() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    midnight = datetime(2026, 3, 29, tzinfo=berlin)
    clock = VirtualClock(start=midnight - timedelta(minutes=1))
    async with virtual_machine(clock=clock) as machine:
        schedule(machine, cron("30 * * * *", "Europe/Berlin"))
        await clock.advance_async(datetime(2026, 3, 30, tzinfo=berlin))
        local = [moment.astimezone(berlin) for moment in runs(machine)]
        assert [moment.hour for moment in local] == [0, 1, *range(3, 24)]
        assert all(moment.minute == 30 for moment in local)


async def test_a_period_counts_from_the_deployment() -> None:
    async with virtual_machine() as machine:
        await machine.advance(61)
        schedule(machine, api_pb2.Schedule(period=api_pb2.Schedule.Period(hours=5)))
        await machine.advance("1d")
        assert runs(machine) == [NOON + timedelta(seconds=61) + 5 * HOUR * number for number in (1, 2, 3, 4)]


async def test_a_function_scales_to_zero_after_its_window_and_not_before() -> None:
    async with virtual_machine() as machine:
        machine.deploy(autoscaler_settings=api_pb2.AutoscalerSettings(scaledown_window=300))
        call, _ = machine.call()
        await machine.advance(0)
        assert (status(call), machine.there) == ("SUCCESS", 1)
        await machine.advance(299.999)
        assert machine.there == 1
        await machine.advance("1ms")
        assert machine.there == 0


async def test_what_works_is_not_scaled_down() -> None:
    async with virtual_machine(code=lambda worker, _: worker.sleep(3600)) as machine:
        machine.deploy(timeout_secs=7200, autoscaler_settings=api_pb2.AutoscalerSettings(scaledown_window=60))
        call, _ = machine.call()
        await machine.advance("59m59s")
        assert (status(call), machine.there) == ("", 1)
        await machine.advance("1s")
        assert (status(call), machine.there) == ("SUCCESS", 1)
        await machine.advance("1m")
        assert machine.there == 0


async def test_an_input_times_out_after_its_time_and_not_before() -> None:
    async with virtual_machine(code=lambda worker, _: worker.sleep(3600)) as machine:
        machine.deploy(timeout_secs=600)
        call, _ = machine.call()
        await machine.advance("9m59s")
        assert status(call) == ""
        await machine.advance("1s")
        assert (status(call), machine.there) == ("TIMEOUT", 1)


async def test_code_that_takes_exactly_its_timeout_is_timed_out() -> None:
    """As in real time, where the code begins a little later than the time limit does."""
    async with virtual_machine(code=lambda worker, _: worker.sleep(600)) as machine:
        machine.deploy(timeout_secs=600)
        call, _ = machine.call()
        await machine.advance("10m")
        assert status(call) == "TIMEOUT"


async def test_a_boot_that_takes_too_long_is_ended_and_its_caller_is_told() -> None:
    async with virtual_machine(boot=lambda worker: worker.sleep(3600)) as machine:
        machine.deploy(startup_timeout_secs=120)
        call, _ = machine.call()
        await machine.advance("1m59s")
        assert (status(call), machine.there) == ("", 1)
        await machine.advance("1s")
        assert status(call) == "INIT_FAILURE"
        assert "did not start within its startup timeout of 120s" in call.outputs[0].result.exception


async def test_retries_come_after_their_backoff() -> None:
    async def fails(_worker: Worker, _item: object) -> None:
        raise RuntimeError

    async with virtual_machine(code=fails) as machine:
        policy = api_pb2.FunctionRetryPolicy(
            retries=4, initial_delay_ms=10_000, backoff_coefficient=2, max_delay_ms=60_000
        )
        machine.deploy(retry_policy=policy)
        call, _ = machine.call()
        await machine.advance("1h")
        assert status(call) == "FAILURE"
        after = [0, 10, 30, 70, 130]
        assert runs(machine) == [NOON + timedelta(seconds=seconds) for seconds in after]


async def test_an_expired_result_is_gone_a_week_later() -> None:
    async with virtual_machine() as machine:
        machine.deploy()
        call, _ = machine.call()
        await machine.advance("6d")
        assert machine.calls.get(call.call_id) is call
        await machine.advance("1d1s")
        assert machine.calls.get(call.call_id) is None
        assert machine.calls.expired(call.call_id) is not None


async def test_time_does_not_go_on_while_a_container_works_and_the_error_names_it() -> None:
    gate = asyncio.Event()

    async def computes(_worker: Worker, _item: object) -> None:
        await gate.wait()

    async with virtual_machine(code=computes) as machine:
        machine.deploy(timeout_secs=600)
        call, item = machine.call()
        with pytest.raises(NotQuietError) as raised:
            await machine.advance("1h", within=0.2)
        [container] = machine.started
        assert machine.clock.now() == NOON
        assert f"container {container.task_id} of app/f works on {item.input_id} of {call.call_id}" in str(raised.value)
        assert "its code" in str(raised.value)
        gate.set()
        await machine.advance("1h")
        assert status(call) == "SUCCESS"


async def test_regardless_of_containers_time_goes_on_while_they_work() -> None:
    async def computes(_worker: Worker, _item: object) -> None:
        await asyncio.Event().wait()

    async with virtual_machine(code=computes) as machine:
        machine.deploy(timeout_secs=600)
        call, _ = machine.call()
        async with asyncio.timeout(20):
            while not machine.began:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await machine.advance("10m", regardless=True)
        assert status(call) == "TIMEOUT"
