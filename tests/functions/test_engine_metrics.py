"""What engines tell of themselves becomes the service's own families, whichever engine it is."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from functions import engine_metrics
from functions.boot import BootPhases
from functions.engine_metrics import EngineCounts, EngineReporter, readings
from functions.engines.base import Address
from functions.engines.readings import NAMES, buckets, read
from infra.measuring import Measuring
from infra.metric_families import family
from infra.metric_snapshots import UNIT, Shape, Snapshot
from infra.settings import Settings, State

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
    answers = [read(SGLANG, model="m"), None, read(SGLANG, model="m")]
    counts = EngineCounts("m", lambda: answers.pop(0), monotonic=lambda: 5.0)
    counts.booted(BootPhases(seconds={"import": 2.0, "ready": 3.5}))
    first, silent, again = (counts.snapshot() for _ in range(3))
    for told in (first, silent, again):
        assert number(told, "engine_cached_tokens_total", "m") == 42
        assert number(told, "engine_containers", "m") == number(told, "engine_container_starts_total", "m") == 1
        assert told[Shape.of(family("engine_boot_seconds"))][("m", "ready")][0] == 3.5 * UNIT
    assert number(first, "engine_requests_running", "m") == number(again, "engine_requests_running", "m") == 5
    assert Shape.of(family("engine_requests_running")) not in silent


@pytest.mark.parametrize("text", ["{not metrics", *(f"sglang:num_requests_total {n}\n" for n in ("+Inf", "NaN", "x"))])
def test_an_engine_that_tells_no_numbers_tells_nothing(
    text: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(engine_metrics, "ask", lambda address, key: "# TYPE sglang:num_requests_total counter\n" + text)
    assert readings(Address(host="127.0.0.1", port=9), None, model="m") is None
    assert "cannot be read" in caplog.text


@pytest.mark.parametrize("failures", [0, 2])
def test_an_engine_that_cannot_start_is_counted(failures: int) -> None:
    counts = EngineCounts("m", lambda: None)
    for _ in range(failures):
        counts.failed()
    assert number(counts.snapshot(), "engine_boots_failed_total", "m") == failures


def test_what_an_engine_counted_before_a_snapshot_is_not_counted_in_each_container_made_of_it() -> None:
    later = SGLANG.replace('"device",model_name="m"} 40.0', '"device",model_name="m"} 47.0')
    for silences in (0, 2):
        answers = [*silences * [None], read(SGLANG, model="m"), read(later, model="m")]
        counts = EngineCounts("m", lambda answers=answers: answers.pop(0))  # type: ignore[misc]
        counts.resumed()
        for _ in range(silences):
            assert not counts.snapshot().get(Shape.of(family("engine_cached_tokens_total")), {("m",): (0,)})[("m",)][0]
        told = counts.snapshot()
        assert number(told, "engine_cached_tokens_total", "m") == 7
        assert number(told, "engine_requests_running", "m") == 5, "a gauge is what it is"


def test_what_cannot_be_reported_is_logged_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried = threading.Semaphore(0)

    def shared_state(_settings: Settings) -> None:
        tried.release()
        raise RuntimeError("no credentials yet")

    monkeypatch.setattr(engine_metrics, "shared_state", shared_state)
    settings = Settings(state=State(kind="aws"), metrics=Measuring.model_construct(publish_interval=0.02))
    reporter = EngineReporter(
        settings.models.available_models[0], settings, address=Address(host="127.0.0.1", port=9), api_key=None
    )
    reporter.failed()
    for _ in range(2):
        assert tried.acquire(timeout=30)
    reporter.stop()
    assert "RuntimeError: no credentials yet" in caplog.text
    assert number(reporter.counts.snapshot(), "metrics_publish_errors_total") >= 1
