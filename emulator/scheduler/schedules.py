"""When a scheduled function runs: (schedule, moment) -> the next moment. Pure: the timer is in `timers`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf, isfinite
from typing import TYPE_CHECKING, Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError
from dateutil.relativedelta import relativedelta

if TYPE_CHECKING:
    from modal_proto import api_pb2

CRON_FIELDS = 5
SHORTEST_PERIOD = 1.0
"""Seconds: with less the timer would do nothing else."""


class InvalidScheduleError(ValueError):
    """A schedule that can not be kept: the message says why."""


class Schedule(Protocol):
    """Moments, in seconds since the epoch."""

    def after(self, moment: float, *, since: float) -> float | None:
        """The first run later than `moment` of a schedule that was deployed at `since`, or `None`: never again."""


@dataclass(frozen=True)
class CronSchedule:
    """A crontab line in a time zone. Deploying does not disturb it.

    In the hours that a time zone skips and repeats it does what cron does (that of Debian, where Modal says nothing):
    what would have run at a skipped time runs right after the gap, what runs at a fixed time runs once in a repeated
    hour, and what runs every hour or more often follows real time.
    """

    expression: str
    timezone: ZoneInfo

    def after(self, moment: float, *, since: float) -> float | None:  # noqa: ARG002
        start = datetime.fromtimestamp(moment, self.timezone)
        for run in CronSim(self.expression, start):
            # In a repeated hour the library may go back to the hour's first pass, which is over.
            if (found := run.timestamp()) > moment:
                return found
        return None


@dataclass(frozen=True)
class PeriodSchedule:
    """An interval that counts from the deployment: months and years as the calendar has them, in UTC."""

    step: relativedelta

    def after(self, moment: float, *, since: float) -> float | None:
        # Multiples from the anchor, not from the last run: "the same day each month" after a shorter month too.
        anchor = datetime.fromtimestamp(since, UTC)
        passed, coming = 0, 1
        while self._at(anchor, coming) <= moment:
            passed, coming = coming, coming * 2
        while coming - passed > 1:
            middle = (passed + coming) // 2
            passed, coming = (middle, coming) if self._at(anchor, middle) <= moment else (passed, middle)
        found = self._at(anchor, coming)
        return found if found < inf else None

    def _at(self, anchor: datetime, count: int) -> float:
        try:
            return (anchor + self.step * count).timestamp()
        except (OverflowError, ValueError):  # after the year 9999
            return inf


def parse(schedule: api_pb2.Schedule) -> CronSchedule | PeriodSchedule:
    """Raises `InvalidScheduleError` for an expression, a time zone or a period that makes no sense."""
    if schedule.WhichOneof("schedule_oneof") == "cron":
        return _cron(schedule.cron.cron_string, schedule.cron.timezone or "UTC")
    period = schedule.period
    parts = ("years", "months", "weeks", "days", "hours", "minutes")
    amounts: dict[str, int] = {name: getattr(period, name) for name in parts}
    if any(amount < 0 for amount in amounts.values()) or period.seconds < 0:
        raise InvalidScheduleError("a Period must not have negative parts")
    if not isfinite(period.seconds):
        raise InvalidScheduleError("a Period must have an end")
    if not any(amounts.values()) and period.seconds < SHORTEST_PERIOD:
        raise InvalidScheduleError(f"a Period must be at least {SHORTEST_PERIOD:g} second long")
    return PeriodSchedule(_step(amounts, period.seconds))


def _step(amounts: dict[str, int], seconds: float) -> relativedelta:
    whole = int(seconds)
    return relativedelta(
        years=amounts["years"],
        months=amounts["months"],
        weeks=amounts["weeks"],
        days=amounts["days"],
        hours=amounts["hours"],
        minutes=amounts["minutes"],
        seconds=whole,
        microseconds=round((seconds - whole) * 1_000_000),
    )


def _cron(expression: str, timezone: str) -> CronSchedule:
    try:
        zone = ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InvalidScheduleError(f"Cron has no time zone {timezone!r}: use a name of the IANA database") from error
    if len(expression.split()) != CRON_FIELDS:
        raise InvalidScheduleError(
            f"Cron({expression!r}) needs five fields: minute, hour, day of month, month, day of week"
        )
    try:
        CronSim(expression, datetime.now(UTC))
    except CronSimError as error:
        raise InvalidScheduleError(f"Cron({expression!r}): {str(error).lower()}") from error
    return CronSchedule(expression, zone)


def shown(schedule: api_pb2.Schedule) -> str:
    """A schedule as one writes it in Python, e.g. `Cron('0 6 * * *', timezone='Europe/Berlin')`."""
    if schedule.WhichOneof("schedule_oneof") == "cron":
        zone = schedule.cron.timezone
        named = f", timezone={zone!r}" if zone not in ("", "UTC") else ""
        return f"Cron({schedule.cron.cron_string!r}{named})"
    parts = ((field.name, value) for field, value in schedule.period.ListFields())
    return f"Period({', '.join(f'{name}={_amount(value)}' for name, value in parts)})"


def _amount(value: float) -> float:
    """Without the digits that come of the seconds' having been sent as a 32-bit number."""
    return int(value) if value == int(value) else round(value, 6)
