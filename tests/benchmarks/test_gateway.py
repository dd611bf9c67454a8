"""The benchmark of gateways runs, with counts too small to tell anything: so that it is there when it is asked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.benchmarks.callers import CallerError, Task, call
from tests.benchmarks.gateway import SCENARIOS, measure, table
from tests.benchmarks.gateways import KEY, MODEL, gateways
from tests.benchmarks.processes import NotStarted, running
from tests.ports import free_port

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(120)]


def test_every_scenario_is_measured_for_ours_and_the_bare_relay() -> None:
    small = [replace(one, callers=min(one.callers, 3), answers=2, tokens=5, gap=0.001, ramp=0.0) for one in SCENARIOS]
    with gateways(["direct", "ours", "bare relay"]) as (there, absent):
        assert absent == {}
        figures = measure(there, small, rounds=1)
    for scenario in small:
        for name, one in figures[scenario.name].items():
            assert one.failure is None
            assert len(one.cpu) == 1
            assert (one.cpu_median > 0) == (name != "direct")
            assert 0 < one.percentile(0.5) <= one.percentile(0.99)
        told = table(scenario, figures[scenario.name])
        assert all(name in told for name in ("direct", "ours", "bare relay"))


def test_events_are_counted_and_a_gateway_that_answers_otherwise_is_told() -> None:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "x"}], "stream": True, "x_scripted": {"tokens": 7}}
    with gateways(["ours"]) as ((ours,), _):
        heard = call(Task(url=ours.url, body=body, callers=2, answers=3, key=KEY))
        assert heard.events == 2 * 3 * (1 + 7 + 1 + 1), "the role, the tokens, the finish, [DONE]"
        assert len(heard.first) == 6
        with pytest.raises(CallerError, match="401"):
            call(Task(url=ours.url, body=body, key="sk-other"))


def test_what_does_not_start_is_told_with_its_last_words() -> None:
    with (
        pytest.raises(NotStarted, match="no such file or directory"),
        running(["sh", "-c", "echo no such file or directory"], port=free_port(), environment={}),
    ):
        pass
