"""Housekeeping: who gets how much time, and what becomes of the others when one fails."""

from __future__ import annotations

import asyncio

import pytest

from functions.jobs import Job, JobsFailed, run_for_ever, run_jobs
from functions.shared import shared_state
from infra.settings import Jobs, Settings
from tests.web.doubles import HandClock


def portions(clock: HandClock, *amounts: int, seconds: float = 0.0) -> Job:
    """A job with so many portions to do, each of which takes so long."""
    left = list(amounts)

    async def job() -> int:
        clock.advance(seconds)
        return left.pop(0) if left else 0

    return job


async def broken() -> int:
    raise ConnectionError("no table")


async def test_each_job_is_done_until_nothing_is_left() -> None:
    clock = HandClock()
    jobs = {"a": portions(clock, 2, 3), "b": portions(clock), "c": portions(clock, 1)}
    assert await run_jobs(jobs, clock=clock, seconds=10) == {"a": 5, "b": 0, "c": 1}


async def test_a_job_with_much_to_do_leaves_the_others_their_time() -> None:
    clock = HandClock()
    jobs = {name: portions(clock, *[1] * 100, seconds=1) for name in "abc"}
    assert await run_jobs(jobs, clock=clock, seconds=30) == {"a": 10, "b": 10, "c": 10}
    quick = {"a": portions(clock, 1, seconds=0.5), "b": portions(clock, *[1] * 100, seconds=1)}
    assert await run_jobs(quick, clock=clock, seconds=30) == {"a": 1, "b": 29}


async def test_a_job_that_fails_keeps_no_other_from_its_work_and_is_told(caplog: pytest.LogCaptureFixture) -> None:
    clock = HandClock()
    worked = portions(clock, 1)
    with pytest.raises(JobsFailed, match=r"^first, third$"):
        await run_jobs({"first": broken, "second": worked, "third": broken}, clock=clock, seconds=10)
    assert await worked() == 0
    assert "the job first failed" in caplog.text
    assert "no table" in caplog.text


async def test_beside_a_service_they_are_done_at_once_and_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, times = HandClock(), []

    async def sometimes_broken() -> int:
        times.append(clock.time())
        clock.advance(5)
        return await broken() if len(times) == 1 else 0

    monkeypatch.setattr("functions.jobs.jobs_of", lambda *_: {"job": sometimes_broken})
    settings = Settings(jobs=Jobs(every_minutes=5))
    state = shared_state(settings)
    assert state is not None
    began = clock.time()
    working = asyncio.create_task(run_for_ever(settings, state, clock=clock))
    async with asyncio.timeout(20):
        for _ in range(3):
            while not clock.pending():  # noqa: ASYNC110 - the clock is no asyncio object
                await asyncio.sleep(0)
            clock.advance(295)
    assert times[:3] == [began, began + 300, began + 600]
    working.cancel()
    await asyncio.wait([working])


@pytest.mark.parametrize(("minutes", "cron"), [(5, "*/5 * * * *"), (30, "*/30 * * * *"), (60, "0 * * * *")])
def test_the_schedule_is_said_as_cron_says_it(minutes: int, cron: str) -> None:
    assert Jobs.model_validate({"every_minutes": minutes}).cron == cron


def test_what_does_not_divide_the_hour_is_refused() -> None:
    with pytest.raises(ValueError, match="does not divide the hour"):
        Jobs(every_minutes=25)


def test_where_each_process_keeps_its_own_state_nothing_is_shared() -> None:
    assert shared_state(Settings.model_validate({"state": {"kind": "memory"}})) is None
