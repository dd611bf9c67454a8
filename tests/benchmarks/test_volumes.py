"""The figures of Volumes can be had: a small run of what `make bench-emulator` does."""

from __future__ import annotations

import sys

import pytest

from tests.benchmarks import volumes


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.skipif(sys.platform != "linux", reason="a process is looked into through /proc")
@pytest.mark.timeout(180)
def test_a_small_run_has_figures_of_both_versions_and_of_containers() -> None:
    found = volumes.figures(scale=0.01)
    assert {name.partition(":")[0] for name in found} >= {"version 1", "version 2", "in a container"}
    assert all(value >= 0 for value in found.values())
