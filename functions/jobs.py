"""Housekeeping: what has to be done with the shared state now and then, whoever asks for what meanwhile.

A job does one portion of its work when it is called, and says how much it did: 0 once nothing is left. It may be
killed between any two steps, and run twice at once: all that it does is conditional, and done again does nothing.
`app.py` runs them on a schedule, `functions/standalone.py` beside the service.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

from functions.logs import configure_logging
from functions.shared import shared_state
from functions.state import metrics_jobs, response_jobs, session_jobs, usage_jobs
from infra.configuration import load_settings
from web.clock import RealClock
from web.record import Record, recorded

if TYPE_CHECKING:
    from functions.shared import SharedState
    from infra.settings import Settings
    from web.clock import Clock

Job = Callable[[], Awaitable[int]]

TIMEOUT_SECONDS = 3600
"""After which Modal ends the function, should it not have ended."""
PART = 0.8
"""Of the time until the next run, that one run may take."""

log = logging.getLogger(__name__)


class JobsFailed(Exception):
    """Some jobs failed, by these names; all were tried. Their errors are in the log."""


def jobs_of(settings: Settings, state: SharedState, clock: Clock) -> dict[str, Job]:
    """All that there are, by name, in the order in which they are done."""
    return {
        **session_jobs(state, settings, clock),
        **usage_jobs(state, settings, clock),
        **metrics_jobs(state, clock),
        **response_jobs(state, clock),
    }


async def run_jobs(jobs: Mapping[str, Job], *, clock: Clock, seconds: float) -> dict[str, int]:
    """Do all that is to be done, in at most about so many seconds: how much each job did. A job has an equal share of
    the time that is left, and one that fails does not keep others from theirs. Raises JobsFailed."""
    ends, failed = clock.monotonic() + seconds, []
    done: dict[str, int] = {}
    run = secrets.token_hex(8)
    for left, (name, job) in zip(range(len(jobs), 0, -1), jobs.items(), strict=True):
        until = clock.monotonic() + max(0.0, ends - clock.monotonic()) / left
        done[name] = 0
        with recorded(Record(job=name, run=run)):
            try:
                while amount := await job():
                    done[name] += amount
                    if clock.monotonic() >= until:
                        break
            except Exception:
                log.exception("the job %s failed", name)
                failed.append(name)
            if done[name]:
                log.info("the job %s did %d", name, done[name])
    if failed:
        raise JobsFailed(", ".join(failed))
    return done


async def run_once() -> dict[str, int]:
    """One run in a container of its own. Raises JobsFailed."""
    from functions.batches import batch_jobs  # of Modal, whose client is not there where `run_for_ever` is

    settings, clock = load_settings(), RealClock()
    configure_logging(settings)
    state = shared_state(settings)
    if state is None:
        return {}
    try:
        jobs = {**jobs_of(settings, state, clock), **batch_jobs(settings, state, clock)}
        return await run_jobs(jobs, clock=clock, seconds=_seconds(settings))
    finally:
        state.clients.close()


async def run_for_ever(settings: Settings, state: SharedState, *, clock: Clock) -> None:
    """Beside a service: at once, and again and again, until it is cancelled."""
    jobs = jobs_of(settings, state, clock)
    while True:
        began = clock.monotonic()
        try:
            await run_jobs(jobs, clock=clock, seconds=_seconds(settings))
        except JobsFailed as error:
            log.error("housekeeping failed, and is tried again in time: %s", error)
        await clock.sleep(max(0.0, began + settings.jobs.every_minutes * 60 - clock.monotonic()))


def _seconds(settings: Settings) -> float:
    return PART * settings.jobs.every_minutes * 60
