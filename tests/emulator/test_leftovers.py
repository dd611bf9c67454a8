"""What a killed emulator leaves on the disk: nothing that the next one does not remove."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from emulator.containers.folder import RunFolder

if TYPE_CHECKING:
    from pathlib import Path

KILLED = """
import os, signal
from emulator.core import Core, Options
Core(Options())
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_next_emulator_removes_what_a_killed_one_left_in_the_temporary_folder(tmp_path: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED], env={**os.environ, "TMPDIR": str(tmp_path)}, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert any(tmp_path.iterdir())
    RunFolder(tmp_path).close()
    assert list(tmp_path.iterdir()) == []
