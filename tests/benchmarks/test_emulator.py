"""The figures of the emulator can be had: a small run of what `make bench-emulator` does."""

from __future__ import annotations

import sys

import pytest

from tests.benchmarks import emulator


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.skipif(sys.platform != "linux", reason="processes are looked into through /proc")
@pytest.mark.timeout(180)
def test_a_small_run_has_every_figure_of_the_first_measurements() -> None:
    found = emulator.figures("zygote", scale=0.01)
    assert emulator.FIRST.keys() <= found.keys()
    assert all(value >= 0 for value in found.values())
    threads = emulator.threads(scale=0.05)
    assert all(value >= 0 for value in threads.values())
    written = emulator.table({**dict.fromkeys(emulator.KINDS, found), "thread": threads})
    assert len(written.splitlines()) == len(found.keys() | threads.keys()) + 3
