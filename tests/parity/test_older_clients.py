"""The oldest client that is tested: these very tests, with its CLI, its SDK and its container runtime."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conformance import environments

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SECONDS = 900
BUT = "not test_modal_serve_puts_dev_behind_the_label and not test_images_installs"
"""The first looks for host names that only real Modal has; the others install with uv, which is not there."""


@pytest.fixture(scope="module")
def oldest() -> Path:
    """The interpreter of an environment with the oldest client and the emulator's other dependencies."""
    made = environments.python("oldest", locks=HERE / "requirements", made=ROOT / ".venvs" / "parity")
    return made.program


@pytest.mark.slow
@pytest.mark.timeout(2 * SECONDS)
@pytest.mark.emulator_only("it starts emulators")
@pytest.mark.row("How it holds", "older clients")
@pytest.mark.parametrize("beside_it", [False, True], ids=["of an emulator with the newest", "of one with the same"])
def test_the_oldest_client_finds_what_the_newest_finds(oldest: Path, beside_it: bool) -> None:
    emulator = oldest if beside_it else Path(sys.executable)
    tests = [
        "-m",
        "pytest",
        HERE,
        "--target",
        "modal",
        "-m",
        "not slow",
        "-k",
        BUT,
        "-q",
        "--reruns",
        "1",
        "-p",
        "no:cacheprovider",
        "--tb=short",
    ]
    command = [emulator, "-m", "emulator", "exec", "--", oldest, *tests]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
