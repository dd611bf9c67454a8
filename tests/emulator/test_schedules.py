"""When a scheduled function runs: the pure decision, over tables and over whatever hypothesis thinks of."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modal_proto import api_pb2

from emulator.scheduler.schedules import InvalidScheduleError, parse, shown

Proto = api_pb2.Schedule


def cron(expression: str, timezone: str = "UTC") -> Proto:
    return Proto(cron=Proto.Cron(cron_string=expression, timezone=timezone))


def period(**parts: float) -> Proto:
    return Proto(period=Proto.Period(**parts))  # type: ignore[arg-type]


def moment(text: str, zone: str = "UTC") -> float:
    """Of a local time; `*` after it means the second time that this hour comes in a night of an autumn."""
    naive = datetime.fromisoformat(text.rstrip("*"))
    return naive.replace(tzinfo=ZoneInfo(zone), fold=int(text.endswith("*"))).timestamp()


def runs(schedule: Proto, after: float, count: int, *, since: float = 0.0, zone: str = "UTC") -> list[str]:
    """The next runs as local times, with what they are ahead of UTC."""
    found = []
    for _ in range(count):
        following = parse(schedule).after(after, since=since)
        assert following is not None
        found.append(datetime.fromtimestamp(following, ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M%z"))
        after = following
    return found


@pytest.mark.parametrize(
    ("expression", "after", "expected"),
    [
        ("* * * * *", "2026-03-01T10:00:00", "2026-03-01T10:01:00"),
        ("* * * * *", "2026-03-01T10:00:59.5", "2026-03-01T10:01:00"),
        ("5 4 * * *", "2026-03-01T04:04:59", "2026-03-01T04:05:00"),
        ("5 4 * * *", "2026-03-01T04:05:00", "2026-03-02T04:05:00"),
        ("0 9 * * 4", "2026-03-01T00:00:00", "2026-03-05T09:00:00"),
        ("0 9 * * THU", "2026-03-01T00:00:00", "2026-03-05T09:00:00"),
        ("0 0 * * 0", "2026-03-02T00:00:00", "2026-03-08T00:00:00"),
        ("0 0 * * 7", "2026-03-02T00:00:00", "2026-03-08T00:00:00"),
        ("0 0 31 * *", "2026-03-31T00:00:00", "2026-05-31T00:00:00"),
        ("0 0 29 2 *", "2026-03-01T00:00:00", "2028-02-29T00:00:00"),
        ("0 0 13 * 5", "2026-03-01T00:00:00", "2026-03-06T00:00:00"),  # the 13th or a Friday
        ("*/20 22-23 * 12 *", "2026-03-01T00:00:00", "2026-12-01T22:00:00"),
    ],
)
def test_a_crontab_line_names_the_next_time(expression: str, after: str, expected: str) -> None:
    assert parse(cron(expression)).after(moment(after), since=0) == moment(expected)


def test_a_crontab_line_is_in_its_time_zone_summer_and_winter() -> None:
    six = cron("0 6 * * *", "America/New_York")
    assert runs(six, moment("2026-01-10T00:00:00"), 1) == ["2026-01-10 11:00+0000"]
    assert runs(six, moment("2026-07-10T00:00:00"), 1) == ["2026-07-10 10:00+0000"]


def test_what_falls_into_the_hour_that_spring_skips_runs_right_after_it() -> None:
    zone = "Europe/Berlin"  # 2026-03-29: 01:59 is followed by 03:00
    assert runs(cron("30 2 * * *", zone), moment("2026-03-28T12:00:00", zone), 2, zone=zone) == [
        "2026-03-29 03:00+0200",
        "2026-03-30 02:30+0200",
    ]


def test_what_falls_into_the_hour_that_autumn_repeats_runs_once() -> None:
    zone = "Europe/Berlin"  # 2026-10-25: 02:59 is followed by 02:00
    assert runs(cron("30 2 * * *", zone), moment("2026-10-24T12:00:00", zone), 2, zone=zone) == [
        "2026-10-25 02:30+0200",
        "2026-10-26 02:30+0100",
    ]


@pytest.mark.parametrize("after", ["2026-10-25T02:40:00", "2026-10-25T02:10:00*", "2026-10-25T02:30:00*"])
def test_the_repeated_hour_s_second_pass_does_not_lead_back_into_the_first(after: str) -> None:
    zone = "Europe/Berlin"
    assert runs(cron("30 2 * * *", zone), moment(after, zone), 1, zone=zone) == ["2026-10-26 02:30+0100"]


def test_what_runs_all_the_time_follows_real_time_through_both_changes() -> None:
    zone = "America/New_York"
    every = cron("*/30 * * * *", zone)
    assert runs(every, moment("2026-03-08T01:20:00", zone), 3, zone=zone) == [
        "2026-03-08 01:30-0500",
        "2026-03-08 03:00-0400",
        "2026-03-08 03:30-0400",
    ]
    assert runs(every, moment("2026-11-01T00:50:00", zone), 5, zone=zone) == [
        "2026-11-01 01:00-0400",
        "2026-11-01 01:30-0400",
        "2026-11-01 01:00-0500",
        "2026-11-01 01:30-0500",
        "2026-11-01 02:00-0500",
    ]


@pytest.mark.parametrize(
    ("parts", "since", "after", "expected"),
    [
        ({"hours": 5}, "2026-03-01T10:07:30", "2026-03-01T10:07:30", "2026-03-01T15:07:30"),
        ({"hours": 5}, "2026-03-01T10:07:30", "2026-03-01T15:07:30", "2026-03-01T20:07:30"),
        ({"seconds": 90}, "2026-03-01T00:00:00", "2026-03-01T00:01:00", "2026-03-01T00:01:30"),
        ({"days": 1}, "2026-03-28T02:30:00", "2026-03-29T02:30:00", "2026-03-30T02:30:00"),
        ({"weeks": 1, "days": 1}, "2026-03-01T00:00:00", "2026-03-01T00:00:00", "2026-03-09T00:00:00"),
        ({"months": 1}, "2026-01-31T09:00:00", "2026-01-31T09:00:00", "2026-02-28T09:00:00"),
        ({"months": 1}, "2026-01-31T09:00:00", "2026-02-28T09:00:00", "2026-03-31T09:00:00"),
        ({"months": 1}, "2026-01-31T09:00:00", "2027-12-31T09:00:00", "2028-01-31T09:00:00"),
        ({"years": 1}, "2028-02-29T00:00:00", "2028-02-29T00:00:00", "2029-02-28T00:00:00"),
        ({"years": 1}, "2028-02-29T00:00:00", "2031-02-28T00:00:00", "2032-02-29T00:00:00"),
    ],
)
def test_a_period_counts_from_the_deployment(parts: dict[str, float], since: str, after: str, expected: str) -> None:
    assert parse(period(**parts)).after(moment(after), since=moment(since)) == moment(expected)


def test_the_seconds_of_a_period_may_have_fractions() -> None:
    found = parse(period(seconds=math.pi)).after(1000.0, since=1000.0)
    assert found == pytest.approx(1000 + math.pi, abs=1e-5)


@pytest.mark.parametrize(
    ("schedule", "complaint"),
    [
        (cron("61 * * * *"), "bad minute"),
        (cron("* * * *"), "five fields"),
        (cron("0 * * * * *"), "five fields"),
        (cron(""), "five fields"),
        (cron("0 0 31 2 *"), "bad day-of-month"),
        (cron("0 0 * * FUN"), "bad day-of-week"),
        (cron("* * * * *", "Mars/Olympus"), "no time zone 'Mars/Olympus'"),
        (cron("* * * * *", "../../etc/passwd"), "no time zone"),
        (period(), "at least 1 second"),
        (period(seconds=0.5), "at least 1 second"),
        (period(days=1, hours=-1), "negative"),
        (period(seconds=-5.0), "negative"),
        (period(seconds=math.inf), "must have an end"),
        (period(days=1, seconds=math.nan), "must have an end"),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused_by_name(schedule: Proto, complaint: str) -> None:
    with pytest.raises(InvalidScheduleError, match=complaint):
        parse(schedule)


def test_a_period_that_is_longer_than_the_calendar_never_comes() -> None:
    assert parse(period(years=9000)).after(moment("2026-01-01T00:00:00"), since=moment("2026-01-01T00:00:00")) is None


def test_a_schedule_is_shown_as_it_was_written() -> None:
    assert shown(cron("0 6 * * *", "Europe/Berlin")) == "Cron('0 6 * * *', timezone='Europe/Berlin')"
    assert shown(cron("0 6 * * *")) == "Cron('0 6 * * *')"
    assert shown(period(days=1, seconds=1.5)) == "Period(days=1, seconds=1.5)"
    assert shown(period(seconds=86_400_000)) == "Period(seconds=86400000)"
    assert shown(period(seconds=math.pi)) == "Period(seconds=3.141593)"


MOMENTS = st.floats(0, 4_000_000_000, allow_nan=False)
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"])
LINES = st.builds(
    "{} {} {} {} {}".format,
    st.sampled_from(["*", "0", "30", "*/15", "7,45"]),
    st.sampled_from(["*", "0", "2", "1-3", "*/6"]),
    st.sampled_from(["*", "1", "31", "*/10"]),
    st.sampled_from(["*", "3", "3,10"]),
    st.sampled_from(["*", "0", "1-5"]),
)


@given(LINES, ZONES, MOMENTS)
def test_the_next_run_is_later_on_the_minute_and_the_same_from_anywhere_before_it(
    line: str, zone: str, after: float
) -> None:
    schedule = parse(cron(line, zone))
    following = schedule.after(after, since=0)
    assert following is not None
    assert following > after
    assert following % 60 == 0
    assert schedule.after((after + following) / 2, since=0) == following


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "years": st.integers(0, 3),
            "months": st.integers(0, 30),
            "days": st.integers(0, 40),
            "hours": st.integers(0, 50),
            "seconds": st.floats(1, 100_000),
        },
    ).filter(lambda parts: any(parts.values())),
    MOMENTS,
    st.floats(0, 1_000_000_000),
)
def test_the_runs_of_a_period_come_one_after_the_other(parts: dict[str, float], since: float, passed: float) -> None:
    schedule = parse(period(**parts))
    first = schedule.after(since + passed, since=since)
    assert first is not None
    assert first > since + passed
    second = schedule.after(first, since=since)
    assert second is not None
    assert second > first
    longest = timedelta(days=366 * 3 + 31 * 30 + 43, seconds=280_000)
    assert second - first <= longest.total_seconds()


def test_midnight_everywhere_is_a_day_apart_except_where_the_clocks_change() -> None:
    schedule, after = parse(cron("0 0 * * *", "Europe/Berlin")), datetime(2026, 1, 1, tzinfo=UTC).timestamp()
    lengths = set()
    for _ in range(366):
        following = schedule.after(after, since=0)
        assert following is not None
        lengths.add(round((following - after) / 3600))
        after = following
    assert lengths - {24} == {23, 25}
