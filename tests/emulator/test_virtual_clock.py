"""The virtual clock by itself: how time is given, who is woken when, who may turn it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from emulator.clock import RealClock
from emulator.virtual_clock import VirtualClock
from emulator.virtual_clock.durations import seconds_of

START = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(start=START)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        *[("90s", 90), ("5m", 300), ("1h30m", 5400), ("1d", 86400), ("250ms", 0.25), ("1.5h", 5400), ("1w 2d", 777600)],
        *[(12, 12), (0.5, 0.5), (timedelta(minutes=2), 120)],
    ],
)
def test_durations_are_written_as_one_says_them(written: str | float | timedelta, seconds: float) -> None:
    assert seconds_of(written) == seconds


@pytest.mark.parametrize("written", ["", "5", "m", "5 minutes", "5m!", "-5m", -1, float("nan"), timedelta(seconds=-1)])
def test_what_is_no_duration_is_refused(written: str | float | timedelta) -> None:
    with pytest.raises(ValueError, match=r"duration|time only goes on"):
        seconds_of(written)


def test_it_stands_until_it_is_turned(clock: VirtualClock) -> None:
    assert clock.now() == START
    assert clock.time() == START.timestamp()
    before = clock.monotonic()
    clock.advance("1h30m")
    assert clock.now() == START + timedelta(hours=1.5)
    assert clock.monotonic() - before == 5400
    clock.advance_to(datetime(2026, 3, 2, tzinfo=UTC))
    assert clock.now() == datetime(2026, 3, 2, tzinfo=UTC)


def test_time_does_not_go_back_and_moments_need_a_zone(clock: VirtualClock) -> None:
    with pytest.raises(ValueError, match="time only goes on"):
        clock.advance_to(START - timedelta(seconds=1))
    with pytest.raises(ValueError, match="time zone"):
        clock.advance_to(datetime(2026, 3, 2))
    with pytest.raises(ValueError, match="time zone"):
        VirtualClock(start=datetime(2026, 3, 1))


def test_small_steps_add_up_exactly(clock: VirtualClock) -> None:
    woken: list[datetime] = []
    clock.add(60.0, lambda: woken.append(clock.now()))
    for _ in range(599):
        clock.advance(0.1)
    assert not woken
    clock.advance(0.1)
    assert woken == [START + timedelta(minutes=1)]


def test_those_who_wait_are_woken_in_the_order_of_their_moments(clock: VirtualClock) -> None:
    woken: list[tuple[str, float]] = []

    def wait(name: str, seconds: float) -> None:
        clock.add(seconds, lambda: woken.append((name, clock.monotonic() - begun)))

    begun = clock.monotonic()
    for name, seconds in (("last", 30.0), ("first", 10.0), ("second", 10.0), ("later", 10.5)):
        wait(name, seconds)
    assert clock.due == START + timedelta(seconds=10)
    clock.advance("20s")
    assert woken == [("first", 10.0), ("second", 10.0), ("later", 10.5)]
    clock.advance("10s")
    assert woken[-1] == ("last", 30.0)
    assert clock.due is None


async def test_tasks_sleep_and_are_cut_off_in_virtual_time(clock: VirtualClock) -> None:
    done: list[str] = []

    async def sleep(seconds: float) -> None:
        await clock.sleep(seconds)
        done.append(f"slept {seconds:g}")

    async def cut_off(seconds: float | None) -> None:
        try:
            async with clock.timeout(seconds):
                await asyncio.Event().wait()
        except TimeoutError:
            done.append(f"cut off after {seconds}")

    tasks = [asyncio.create_task(work) for work in (sleep(60), cut_off(30), cut_off(None), cut_off(0), sleep(0))]
    await asyncio.wait(tasks[3:])
    assert sorted(done) == ["cut off after 0", "slept 0"]
    await clock.advance_async("30s")
    await asyncio.wait(tasks[1:2])
    assert done[2:] == ["cut off after 30"]
    await clock.advance_async("30s")
    await asyncio.wait(tasks[:1])
    assert done[3:] == ["slept 60"]
    tasks[2].cancel()


async def test_what_ends_in_time_leaves_nothing_that_is_due(clock: VirtualClock) -> None:
    for _ in range(1000):
        async with clock.timeout(3600):
            pass
    sleeping = asyncio.create_task(clock.sleep(3600))
    await asyncio.sleep(0)
    sleeping.cancel()
    await asyncio.wait([sleeping])
    assert clock.due is None
    assert len(clock._agenda._heap) < 200


async def test_until_a_time_of_day(clock: VirtualClock) -> None:
    with pytest.raises(TimeoutError):
        async with clock.until(clock.time() - 1):
            await asyncio.Event().wait()
    with pytest.raises(TimeoutError):
        async with clock.until(clock.time() + 86400):
            await clock.advance_async("1d")
            await asyncio.Event().wait()
    assert clock.now() == START + timedelta(days=1)


def test_the_time_of_those_outside_stays_real(clock: VirtualClock) -> None:
    assert isinstance(clock.outside, RealClock)
    real = RealClock()
    assert real.outside is real
