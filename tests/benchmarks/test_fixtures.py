"""The figures of the fixtures can be had: a small run of what `make bench-emulator` does."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(180)
def test_a_small_run_has_every_figure() -> None:
    code = "from tests.benchmarks.fixtures import figures; print(sorted(figures(scale=0.05)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    told = done.stdout.splitlines()[-1]
    assert all(name in told for name in ("`emulator` fixture", "deploy", "first call", "warm call", "a day with 24"))
