"""Functions that run by themselves: of deployed apps, and of no others."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import modal
import pytest

if TYPE_CHECKING:
    from tests.parity.kit import Target


def schedules(target: Target, app: str) -> dict[str, str]:
    return {found.function: found.schedule for found in target.emulator.schedules() if found.app == app}


@pytest.mark.row("Functions", "schedule=modal.Period")
@pytest.mark.slow
def test_a_deployed_function_runs_each_time_that_its_period_has_passed_without_arguments(target: Target) -> None:
    app = target.deploy("scheduled.py", name="scheduled-runs")
    try:
        with target.start("app", "logs", "-f", app.name) as logs:
            logs.wait_for("often: () nothing\noften: () nothing", within=20)
    finally:
        assert target.cli("app", "stop", "--yes", app.name).returncode == 0


@pytest.mark.row("Functions", "schedule=modal.Period")
@pytest.mark.row("Functions", "schedule=modal.Cron")
@pytest.mark.slow
def test_modal_run_runs_no_schedule(target: Target) -> None:
    """Though it takes longer than the period of one of its functions."""
    done = target.cli("run", "scheduled.py")
    assert done.returncode == 0, done.stderr
    assert "plain" in done.stdout
    assert "often: (" not in done.stdout


@pytest.mark.row("Functions", "schedule=modal.Cron")
@pytest.mark.row("Functions", "schedule=modal.Period")
@pytest.mark.emulator_only("Modal shows the next run in its dashboard")
def test_the_next_run_is_known_while_the_app_is_deployed_and_its_definition_has_the_schedule(target: Target) -> None:
    app = target.deploy("scheduled.py", name="scheduled-known", env={"PARITY_SECONDS": "7200"})
    found = {run.function: run for run in target.emulator.schedules() if run.app == app.name}
    assert {name: run.schedule for name, run in found.items()} == {
        "often": "Period(seconds=7200)",
        "daily": "Cron('0 6 * * *', timezone='America/New_York')",
    }
    assert app.function("daily").info().schedule == "Cron('0 6 * * *', America/New_York)"
    assert found["daily"].next_at is not None
    local = datetime.fromtimestamp(found["daily"].next_at, ZoneInfo("America/New_York"))
    assert (local.hour, local.minute) == (6, 0)
    assert found["often"].next_at is not None
    assert 7100 < found["often"].next_at - datetime.now(UTC).timestamp() <= 7200

    unscheduled = modal.App(app.name)
    unscheduled.function(serialized=True, name="plain")(lambda: "plain")
    unscheduled.deploy(name=app.name, client=target.client)
    assert schedules(target, app.name) == {}


@pytest.mark.row("Functions", "schedule=modal.Cron")
@pytest.mark.parametrize(
    ("schedule", "complaint"),
    [
        (modal.Cron("61 * * * *"), "bad minute"),
        (modal.Cron("* * * * *", timezone="Mars/Olympus"), "Mars/Olympus"),
        (modal.Period(), "Period"),
    ],
)
def test_a_schedule_that_makes_no_sense_fails_the_deploy(
    target: Target, schedule: modal.schedule.Schedule, complaint: str
) -> None:
    app = modal.App(target.unique("no-schedule"))
    app.function(serialized=True, name="f", schedule=schedule)(lambda: None)
    with pytest.raises(modal.exception.InvalidError, match=complaint):
        app.deploy(client=target.client)


@pytest.mark.row("Functions", "schedule=modal.Cron")
def test_a_function_that_needs_arguments_has_no_schedule() -> None:
    def needs(argument: int) -> int:
        return argument

    with pytest.raises(modal.exception.InvalidError, match="needs to support being called with no arguments"):
        modal.App("x").function(schedule=modal.Cron("* * * * *"), serialized=True)(needs)
