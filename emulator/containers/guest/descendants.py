"""Nothing that a container started outlives it: adopting orphans, and killing everything below a process."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path

from emulator.containers.guest import linux


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent has ended, sessions of their own included (Linux only)."""
    if sys.platform == "linux":
        linux.become_subreaper()


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when `parent` ends (Linux only; elsewhere init kills the process group)."""
    if sys.platform == "linux":
        linux.set_death_signal(signal.SIGKILL)
    if os.getppid() not in (parent, 0):
        os._exit(1)


def kill_all(main: int | None = None) -> int | None:
    """Kill and reap every descendant of this process. The exit status of `main`, if it was among the reaped.

    On Linux that is everything, since orphans come to this process. Elsewhere it is the process group of `main`.
    """
    code: int | None = None
    if main is not None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(main, signal.SIGKILL)
    while True:
        for pid in _children_of_self():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        try:
            pid, status = os.waitpid(-1, 0)
        except ChildProcessError:
            return code
        if pid == main:
            code = os.waitstatus_to_exitcode(status)


def _children_of_self() -> list[int]:
    if sys.platform != "linux":
        return []
    listed = Path(f"/proc/self/task/{os.getpid()}/children")
    try:
        return [int(pid) for pid in listed.read_text().split()]
    except OSError:  # a kernel without CONFIG_PROC_CHILDREN
        return [pid for pid in _all_processes() if _parent(pid) == os.getpid()]


def _all_processes() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _parent(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, IndexError):
        return None
