"""Numbers of containers are whole, so they add up to the same in any order, and nothing of another version is lost."""

from __future__ import annotations

import random

import pytest

from infra.metric_families import WAITS, family
from infra.metric_rows import Base, Reading, Row
from infra.metric_snapshots import Shape, Snapshot, less, pack, total, units, unpack

REQUESTS = Shape.of(family("chat_completions_requests_total"))
LATENCY = Shape.of(family("e2e_request_latency_seconds"))
RUNNING = Shape.of(family("requests_running"))
ONE: Snapshot = {
    REQUESTS: {("a",): (units(3),)},
    LATENCY: {("a",): (units(0.1), 1, *[0] * len(WAITS))},
    RUNNING: {("a",): (units(2),)},
}


def row(writer: str, snapshot: Snapshot = ONE, *, written_at: float = 0.0, ended: bool = False) -> Row:
    return Row(writer, 1, snapshot, written_at=written_at, interval=10.0, ended=ended)


def test_a_snapshot_is_the_same_after_it_was_stored_but_for_what_is_zero() -> None:
    assert unpack(pack(ONE)) == ONE
    assert unpack(pack({REQUESTS: {("a",): (0,), ("b",): (units(2**70),)}})) == {REQUESTS: {("b",): (units(2**70),)}}
    with pytest.raises(ValueError, match="no snapshot"):
        unpack(b"something else")


def test_sums_do_not_depend_on_the_order_in_which_they_are_made() -> None:
    latencies = [{LATENCY: {("a",): (units(random.expovariate(1.0)), 1, *[0] * len(WAITS))}} for _ in range(200)]
    whole = total(latencies)
    for _ in range(5):
        random.shuffle(latencies)
        assert total([total(latencies[:70]), total(latencies[70:])]) == whole


def test_what_was_counted_before_is_taken_away_and_gauges_are_not() -> None:
    assert less(total([ONE, ONE]), ONE) == {**ONE, RUNNING: {("a",): (units(4),)}}


def test_a_family_of_other_buckets_is_neither_mixed_up_nor_lost() -> None:
    older = LATENCY._replace(bounds=(1.0,))
    both = total([ONE, {older: {("a",): (units(5), 1, 0)}}, ONE])
    assert both[older] == {("a",): (units(5), 1, 0)}
    assert both[LATENCY][("a",)][0] == units(0.2)


def test_gauges_are_those_of_the_living() -> None:
    rows = [row("fresh", written_at=70.0), row("late", written_at=45.0), row("ended", written_at=80.0, ended=True)]
    summed = Reading(Base(), rows).total(now=81.0)
    assert summed[RUNNING] == {("a",): (units(4),)}
    assert Reading(Base(), rows).total(now=86.0)[RUNNING] == {("a",): (units(2),)}, "three intervals and ten seconds"
    assert Reading(Base(), rows).total(now=10**6).get(RUNNING, {}) == {}
    assert summed[REQUESTS] == Reading(Base(), rows).total(now=10**6)[REQUESTS] == {("a",): (units(9),)}


def test_a_row_that_is_in_the_base_is_not_counted_beside_it() -> None:
    reading = Reading(Base(), [row("x"), row("y")])
    base = reading.fold([reading.rows[0]], now=1000.0)
    assert base is not None
    after = Reading(base, reading.rows)
    assert after.total(now=1000.0)[REQUESTS] == reading.total(now=1000.0)[REQUESTS]
    assert after.fold([reading.rows[0]], now=1001.0) is None, "it is in it already"
