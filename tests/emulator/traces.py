"""What an emulator and all below it occupy on this machine (Linux), and whether it is gone."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.emulator.cli_kit import COMMAND, environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SPACES = ("mnt", "net", "pid", "ipc", "user", "cgroup")
WITHIN = 15.0


def until(condition: Callable[[], object], told: Callable[[], str], *, within: float = WITHIN) -> None:
    """Return once it holds. Raises AssertionError, with what is `told`, when it does not in time."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, told()
        time.sleep(0.01)


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _stat(pid: int) -> list[str]:
    """State, parent, … of a process; empty when it is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return []


def born(pid: int) -> str | None:
    """When a process started: with its number, that names it for good. None for one that is gone, or a zombie."""
    fields = _stat(pid)
    return fields[19] if fields and fields[0] not in "ZX" else None


def below(pid: int) -> set[int]:
    """A process and all that come from it."""
    children: dict[int, list[int]] = {}
    for other in _pids():
        if fields := _stat(other):
            children.setdefault(int(fields[1]), []).append(other)
    found, todo = {pid}, [pid]
    while todo:
        more = children.get(todo.pop(), [])
        found.update(more)
        todo += more
    return found


def _spaces(pid: int) -> set[str]:
    found = set()
    for name in SPACES:
        with contextlib.suppress(OSError):
            found.add(str(Path(f"/proc/{pid}/ns/{name}").readlink()))
    return found


def _held_sockets(pid: int) -> set[str]:
    found = set()
    with contextlib.suppress(OSError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                target = str(entry.readlink())
                if target.startswith("socket:["):
                    found.add(target[8:-1])
    return found


def listening() -> dict[str, str]:
    """The address (in hexadecimal) of each TCP socket of this machine's network that listens, by its inode."""
    found = {}
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                found[fields[9]] = fields[1]
    return found


def listeners_of(pid: int) -> list[str]:
    """`address:port`, in hexadecimal, of what one process listens on."""
    return [address for inode, address in listening().items() if inode in _held_sockets(pid)]


def with_argument(word: str) -> list[int]:
    """The living processes that have this word among their arguments."""
    found = []
    for pid in _pids():
        with contextlib.suppress(OSError):
            if word.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0") and born(pid):
                found.append(pid)
    return found


@dataclass
class Traces:
    """What there was at one moment."""

    processes: dict[int, str | None]
    sockets: set[str]
    spaces: set[str]
    cgroups: set[str] = field(default_factory=set)
    taken_at: int = 0
    """In the kernel's ticks since the machine started, as the births of processes."""

    @classmethod
    def of(cls, pid: int) -> Traces:
        pids = below(pid)
        mine = _spaces(os.getpid())
        return cls(
            {each: born(each) for each in pids},
            set().union(*(_held_sockets(each) for each in pids)),
            set().union(*(_spaces(each) for each in pids)) - mine,
            {text for each in pids if (text := _cgroup(each))} - {_cgroup(os.getpid())},
            int(float(Path("/proc/uptime").read_text().split()[0]) * os.sysconf("SC_CLK_TCK")),
        )

    def left(self) -> list[str]:
        """What is still there, in words."""
        processes = [pid for pid, at in self.processes.items() if at is not None and born(pid) == at]
        found = [f"process {pid}: {_command(pid)}" for pid in processes]
        found += [f"listens: {listening()[inode]}" for inode in self.sockets & listening().keys()]
        # The number of a namespace that is gone is given again: to processes that are younger.
        for pid in (pid for pid in _pids() if int(born(pid) or sys.maxsize) <= self.taken_at):
            found += [f"{space} is held by process {pid}: {_command(pid)}" for space in self.spaces & _spaces(pid)]
        return found + [f"cgroup {name}" for name in self.cgroups if Path("/sys/fs/cgroup" + name).exists()]

    def gone(self) -> None:
        """Wait until nothing of it is left."""
        until(lambda: not self.left(), lambda: "\n".join(self.left()))


def _cgroup(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cgroup").read_text().rpartition("::")[2].strip()
    return ""


def _command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:100]
    return "?"


def mounts_below(folder: Path) -> list[str]:
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f" {folder}" in line]


class Commanded:
    """The `emulator` command, with a temporary folder of its own."""

    def __init__(self, *arguments: str, cwd: Path, temporary: Path, **extra: str) -> None:
        temporary.mkdir(exist_ok=True)
        self.temporary = temporary
        self._log = cwd / f"log-{time.monotonic_ns()}"
        self._log.touch()
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*COMMAND, *arguments],
                cwd=cwd,
                env=environment(TMPDIR=str(temporary), NO_COLOR="1", COLUMNS="200", **extra),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def text(self) -> str:
        return self._log.read_text(errors="replace")

    def says(self, *texts: str, within: float = 40.0) -> None:
        """Wait until it has written all of them."""

        def said() -> bool:
            missing = [text for text in texts if text not in self.text]
            assert not missing or self.process.poll() is None, f"it ended without {missing}:\n{self.text}"
            return not missing

        until(said, lambda: f"not said: {[t for t in texts if t not in self.text]}\n{self.text}", within=within)

    def traces(self) -> Traces:
        return Traces.of(self.process.pid)

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ends(self, *, within: float = 20.0) -> int:
        try:
            return self.process.wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it has not ended within {within:g}s:\n{self.text}") from None


@contextlib.contextmanager
def commanded(*arguments: str, cwd: Path, temporary: Path, **extra: str) -> Iterator[Commanded]:
    """Start it; kill it, and what it started, at the end if it still runs."""
    command = Commanded(*arguments, cwd=cwd, temporary=temporary, **extra)
    try:
        yield command
    finally:
        left = Traces.of(command.process.pid).processes if command.process.poll() is None else {}
        for pid, at in left.items():
            if at is not None and born(pid) == at:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        command.process.wait()


def sweep(temporary: Path) -> None:
    """What the next emulator with this temporary folder does first, in a process of its own."""
    code = "from emulator.emulator import Emulator\nwith Emulator(): pass"
    subprocess.run([sys.executable, "-c", code], env=environment(TMPDIR=str(temporary)), check=True, timeout=60)
