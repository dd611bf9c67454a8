"""Runs a command that the kernel kills as soon as the thread that started it is gone, however it went (Linux).

    python -IS tied.py PARENT COMMAND…

PARENT is the process id of whoever starts it. It is run as a file and imports nothing of this project; what it runs
has its process id and its command line.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

PR_SET_PDEATHSIG = 1
"""From `linux/prctl.h`. Kept across execve; children of the command do not inherit it."""


def tied(command: Sequence[str]) -> list[str]:
    """`command`, so that it ends with the thread that starts it, where the system can see to that."""
    if sys.platform != "linux":
        return list(command)
    return [sys.executable, "-I", "-S", str(Path(__file__)), str(os.getpid()), *command]


def main() -> None:
    parent, *command = sys.argv[1:]
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(parent):
        sys.exit("whoever wanted this is gone")
    try:
        os.execvp(command[0], command)  # noqa: S606 - the command is ours
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")


if __name__ == "__main__":
    main()
