"""Nothing of an emulator with thread containers is left in its process when it has stopped."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def left_after(rounds: int, *, timeout: float) -> dict[str, Any]:
    """What `thread_leaks` has found, in a process of its own: this one has other tests' things."""
    command = [sys.executable, "-m", "tests.emulator.thread_leaks", str(rounds)]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Exception ignored" not in done.stderr, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
def test_all_that_was_exchanged_is_put_back() -> None:
    found = left_after(3, timeout=50)
    assert found["changed"] == []
    assert found["last"]["children"] == 0
    assert found["last"]["descriptors"] == found["first"]["descriptors"]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_hundred_emulators_leave_no_thread_no_descriptor_and_no_memory(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = left_after(200, timeout=280)
    with capsys.disabled():
        print(f"\n200 emulators with thread containers: {found}")
    first, last = found["first"], found["last"]
    assert found["changed"] == []
    assert last["threads"] <= first["threads"] + 2  # the pool of the client's own loop grows to its limit
    assert last["descriptors"] == first["descriptors"]
    assert last["resident MB"] - first["resident MB"] < 15
