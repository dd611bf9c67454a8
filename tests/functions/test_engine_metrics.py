"""What engines tell of themselves becomes the service's own families, whichever engine it is."""

from __future__ import annotations

from typing import Any

import pytest

from functions.boot import BootPhases
from functions.engine_metrics import EngineCounts
from functions.engines.readings import NAMES, buckets, read
from infra.metric_families import family
from infra.metric_snapshots import UNIT, Shape, Snapshot

SGLANG = """\
# TYPE sglang:num_running_reqs gauge
sglang:num_running_reqs{engine_type="unified",model_name="m",tp_rank="0",dp_rank="0"} 2.0
sglang:num_running_reqs{engine_type="unified",model_name="m",tp_rank="0",dp_rank="1"} 3.0
# TYPE sglang:cached_tokens_total counter
sglang:cached_tokens_total{cache_source="device",model_name="m"} 40.0
sglang:cached_tokens_total{cache_source="host",model_name="m"} 2.0
# TYPE sglang:time_to_first_token_seconds histogram
sglang:time_to_first_token_seconds_sum{is_streaming="true",model_name="m"} 2.5
sglang:time_to_first_token_seconds_bucket{is_streaming="true",le="0.1",model_name="m"} 1.0
sglang:time_to_first_token_seconds_bucket{is_streaming="true",le="0.2",model_name="m"} 3.0
sglang:time_to_first_token_seconds_bucket{is_streaming="true",le="+Inf",model_name="m"} 4.0
sglang:time_to_first_token_seconds_sum{is_streaming="false",model_name="m"} 0.5
sglang:time_to_first_token_seconds_bucket{is_streaming="false",le="0.1",model_name="m"} 0.0
sglang:time_to_first_token_seconds_bucket{is_streaming="false",le="0.2",model_name="m"} 0.0
sglang:time_to_first_token_seconds_bucket{is_streaming="false",le="+Inf",model_name="m"} 1.0
# TYPE sglang:something_else_with_a_caller_s_words counter
sglang:something_else_with_a_caller_s_words{user="alice"} 1.0
"""


def number(snapshot: Snapshot, name: str, *labels: str) -> Any:
    (value,) = snapshot[Shape.of(family(name))][labels]
    return value / UNIT


def test_an_engine_s_own_labels_are_added_up_and_what_was_not_chosen_is_left_out() -> None:
    told = read(SGLANG, model="m")
    assert {shape.name for shape in told} == {
        "engine_requests_running", "engine_cached_tokens_total", "engine_time_to_first_token_seconds",
    }  # fmt: skip
    assert number(told, "engine_requests_running", "m") == 5
    assert number(told, "engine_cached_tokens_total", "m") == 42
    sum_, first, second, *between, above = told[Shape.of(family("engine_time_to_first_token_seconds"))][("m",)]
    assert (sum_ / UNIT, first, second, sum(between), above) == (3.0, 1, 2, 0, 2)


def test_buckets_that_the_engine_does_not_have_take_nothing_from_the_next() -> None:
    assert buckets({0.1: 1.0, 0.4: 3.0, float("inf"): 4.0}, (0.1, 0.2, 0.4)) == (1, 0, 2, 1)
    assert buckets({}, (0.1, 0.2)) == (0, 0, 0)


def test_every_name_of_an_engine_s_is_one_of_the_service_s() -> None:
    assert all(family(name).origin == "engine" for name in NAMES.values())


def test_an_engine_that_does_not_answer_has_counted_what_it_last_told_and_runs_nothing() -> None:
    answers: list[str | None] = [SGLANG, None, "{not metrics", SGLANG]
    counts = EngineCounts("m", lambda: answers.pop(0), monotonic=lambda: 5.0)
    counts.booted(BootPhases(seconds={"import": 2.0, "ready": 3.5}))
    first, silent, broken, again = (counts.snapshot() for _ in range(4))
    for told in (first, silent, broken, again):
        assert number(told, "engine_cached_tokens_total", "m") == 42
        assert number(told, "engine_containers", "m") == number(told, "engine_container_starts_total", "m") == 1
        assert told[Shape.of(family("engine_boot_seconds"))][("m", "ready")][0] == 3.5 * UNIT
    assert number(first, "engine_requests_running", "m") == number(again, "engine_requests_running", "m") == 5
    assert Shape.of(family("engine_requests_running")) not in silent


@pytest.mark.parametrize("number_of_it", ["+Inf", "NaN", "many"])
def test_an_engine_that_tells_no_numbers_has_counted_what_it_last_told(number_of_it: str) -> None:
    texts = ["# TYPE sglang:num_requests_total counter\nsglang:num_requests_total 5.0\n"]
    counts = EngineCounts("a", lambda: texts[-1])
    counts.snapshot()
    texts.append(texts[0].replace("5.0", number_of_it))
    assert number(counts.snapshot(), "engine_requests_total", "a") == 5


@pytest.mark.parametrize("failures", [0, 2])
def test_an_engine_that_cannot_start_is_counted(failures: int) -> None:
    counts = EngineCounts("m", lambda: None)
    for _ in range(failures):
        counts.failed()
    assert number(counts.snapshot(), "engine_boots_failed_total", "m") == failures


def test_what_an_engine_counted_before_a_snapshot_is_not_counted_in_each_container_made_of_it() -> None:
    later = SGLANG.replace('"device",model_name="m"} 40.0', '"device",model_name="m"} 47.0')
    answers = [SGLANG, later]
    counts = EngineCounts("m", lambda: answers.pop(0))
    counts.resumed()
    told = counts.snapshot()
    assert number(told, "engine_cached_tokens_total", "m") == 7
    assert number(told, "engine_requests_running", "m") == 5, "a gauge is what it is"
