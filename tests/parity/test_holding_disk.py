"""A disk that is full, or may not be written to, is told as that."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.emulator.cli_kit import COMMAND, environment

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

pytestmark = [pytest.mark.emulator_only("it is about the emulator's own disk"), pytest.mark.slow]

APP = """
import modal

app = modal.App("full", image=modal.Image.debian_slim().add_local_file("big.bin", "/root/big.bin"))

@app.function()
def length(x: bytes) -> int:
    return len(x)

@app.local_entrypoint()
def main(n: int):
    print("length is", length.remote(b"x" * n))
"""
FULL = "No space left on device"


@pytest.fixture
def tmp_path(temporary: Path) -> Path:
    """The disks are mounted in it, and hold an emulator's temporary files."""
    return temporary


def on_small_disk(
    command: Sequence[str], tmp_path: Path, *, mount: str, variable: str = "TMPDIR"
) -> subprocess.CompletedProcess[str]:
    """Run the emulator where `variable` names the mount point of a disk of its own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    script = f'mount -t tmpfs -o {mount} tmpfs "{disk}" && exec "$@"'
    unshare = ("unshare", "-m") if os.geteuid() == 0 else ("unshare", "-rm")
    if subprocess.run([*unshare, "sh", "-c", script, "sh", "true"], capture_output=True, check=False).returncode:
        pytest.skip("mounting takes namespaces, which this machine does not allow")
    return subprocess.run(
        [*unshare, "sh", "-c", script, "sh", *COMMAND, *command],
        cwd=tmp_path,
        env=environment(NO_COLOR="1", COLUMNS="300", **{variable: str(disk)}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )


def run_app(tmp_path: Path, *, file: int, given: int, size: str) -> str:
    """What `modal run` says where the app brings a file of so many bytes, and its input has so many."""
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "big.bin").write_bytes(os.urandom(file))
    command = ("exec", "--", "modal", "run", "app.py", "--n", str(given))
    done = on_small_disk(command, tmp_path, mount=f"size={size}")
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.row("How it holds", "a full disk")
def test_a_file_that_does_not_fit_fails_the_deploy_and_says_why(tmp_path: Path) -> None:
    assert f"The emulator can not use its disk: [Errno 28] {FULL}" in run_app(
        tmp_path, file=3_000_000, given=1, size="1m"
    )


@pytest.mark.row("How it holds", "a full disk")
def test_an_input_that_does_not_fit_fails_the_call_and_says_why(tmp_path: Path) -> None:
    said = run_app(tmp_path, file=1, given=5_000_000, size="1m")
    assert "ExecutionError" in said
    assert f"the emulator can not use its disk: [Errno 28] {FULL}" in said


@pytest.mark.row("How it holds", "a full disk")
def test_a_container_whose_files_do_not_fit_fails_the_call_and_says_why(tmp_path: Path) -> None:
    said = run_app(tmp_path, file=600_000, given=1, size="1m")
    assert "/root/big.bin could not be made" in said
    assert FULL in said


@pytest.mark.row("How it holds", "an unwritable folder")
def test_a_temporary_folder_that_may_not_be_written_to_is_passed_over_for_another(tmp_path: Path) -> None:
    done = on_small_disk(("exec", "--", "echo", "hi"), tmp_path, mount="ro")
    assert (done.returncode, done.stdout, done.stderr) == (0, "hi\n", "")


@pytest.mark.row("How it holds", "an unwritable folder")
def test_a_state_folder_that_may_not_be_written_to_is_one_line_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("import modal\napp = modal.App('x')\n")
    done = on_small_disk(("up", "--port", "0", "--state", str(tmp_path / "disk")), tmp_path, mount="ro", variable="_")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"emulator: the state directory {tmp_path}/disk can not be used: Read-only file system\n"


@pytest.mark.row("Storage", "a full disk")
@pytest.mark.parametrize("version", ["1", "2"])
def test_files_that_do_not_fit_into_a_volume_fail_and_leave_nothing(tmp_path: Path, version: str) -> None:
    (tmp_path / "big.bin").write_bytes(os.urandom(20 << 20))
    script = f"modal volume create v --version {version}; modal volume put v big.bin; modal volume ls v; echo listed"
    done = on_small_disk(("exec", "--", "sh", "-c", script), tmp_path, mount="size=12m")
    told, said = done.stderr + done.stdout, done.stdout
    assert "No space left on device" in told
    assert "listed" in said
    assert "big.bin\n" not in said
