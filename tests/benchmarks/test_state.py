"""The benchmark of the state runs, and its counts are exact however few they are."""

from __future__ import annotations

import pytest

from tests.benchmarks.state import measure, service

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(120)]


async def test_a_stored_turn_is_three_calls_and_a_stateless_request_next_to_none() -> None:
    with service() as (there, clients):
        figures = await measure(there, clients, turns=10)
    assert [one.engine for one in figures] == ["at once", "50 ms"]
    for one in figures:
        assert all(time > 0 for time in (*one.stateless, *one.stored, *one.read, *one.write))
        assert one.calls_stored <= 4, "three, and what goes on beside them"
        assert one.calls_stateless <= 1
    assert all(first > 50 for first in figures[1].stateless)
