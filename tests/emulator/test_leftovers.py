"""What a killed emulator leaves on the disk: nothing that the next one does not remove."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from emulator.containers.folder import RunFolder

KILLED = """
import os, signal
from emulator.core import Core
from emulator.options import Options
Core(Options())
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_the_next_emulator_removes_what_a_killed_one_left_in_the_temporary_folder() -> None:
    with tempfile.TemporaryDirectory(prefix="tmp-") as folder:
        temporary = Path(folder)
        killed = subprocess.run([sys.executable, "-c", KILLED], env={**os.environ, "TMPDIR": folder}, check=False)
        assert killed.returncode == -signal.SIGKILL
        assert any(temporary.iterdir())
        RunFolder(temporary).close()
        assert list(temporary.iterdir()) == []


def test_a_temporary_folder_whose_path_is_too_long_for_sockets_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("long" * 20)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    folder = RunFolder()
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(folder.make("s") / "12345678"))
    finally:
        folder.close()
    assert list(long.iterdir()) == []
