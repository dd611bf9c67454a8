"""Processes that are measured: started, waited for, their CPU time told in nanoseconds, ended with their children."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.service.deployment import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

PASSED_ON = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV")
"""What of this environment a measured process sees: other people's programs are told nothing else."""


class NotStarted(RuntimeError):
    """A process ended, or did not listen in time. The message ends with what it wrote last."""


@contextlib.contextmanager
def running(
    command: Sequence[str | Path], *, port: int, environment: Mapping[str, str], within: float = 60.0
) -> Iterator[int]:
    """A process that listens on `port` of 127.0.0.1: its id. Raises NotStarted."""
    visible = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [str(word) for word in command], cwd=ROOT, env=visible | environment, stdin=subprocess.DEVNULL,
            stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            _await_port(process, port, within=within, output=output.fileno())
            yield process.pid
        finally:
            _end(process)


def _await_port(process: subprocess.Popen[bytes], port: int, *, within: float, output: int) -> None:
    until = time.monotonic() + within
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    said = os.pread(output, 1 << 20, 0).decode(errors="replace").strip()[-2000:]
    raise NotStarted(f"{process.args!r} did not listen on port {port} within {within:.0f} s:\n{said}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the whole session that it began: a server's workers too."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def cpu_seconds(pid: int) -> float:
    """CPU time of a process, all its threads and its living children (Linux).

    `/proc/<pid>/stat` tells the same sum in ticks of 10 ms, which is more than a short run costs; the process's own CPU
    clock (the number that `clock_getcpuclockid(3)` computes) tells it in nanoseconds.
    """
    own = time.clock_gettime((~pid << 3) | 2)
    return own + sum(cpu_seconds(child) for child in _children(pid))


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            found += [int(child) for child in (thread / "children").read_text().split()]
    return found
