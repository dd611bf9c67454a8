"""What the emulator costs: its start, a container's, its memory, and each call, beside the first measurements.

    python -m tests.benchmarks.emulator

The emulator runs in a process of its own, and the unmodified SDK in this one. CPU is the emulator's process alone: what
clients and containers spend is Modal's own code. Medians. (Chunks through the web: `emulator_web.py`.)
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.parity.kit import client_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import modal

ROOT = Path(__file__).parents[2]
APP = "tests/benchmarks/emulator_app.py"
"""By its file, alone: each file that an app brings makes a cold start longer."""
KINDS = ("zygote", "process")
"""Of containers that the same measurements fit; what an emulator with threads costs is measured in one process."""
STARTS = 7
COLD = 10
CALLS = 400
ITEMS = 4_000
INPUTS = 10_000

FIRST: Mapping[str, tuple[str, str, str]] = {
    "`modal run`, wall, s": ("1.35", "2.1-2.6", ""),
    "cold start to first result, ms": ("60", "780", "11"),
    "private memory a container, MB": ("15", "36", "0"),
    "warm .remote(), p50, ms": ("6.3", "4.0-6.3", "3.7-4.1"),
    "generator, items/s": ("2,600-3,100", "2,700-3,500", "1,000"),
}
"""By figure, of forks, subprocesses and threads: first measurements of the protocol prototype, on 2 cores, ±30 %."""

Figures = dict[str, float]


class Served:
    """An emulator that runs elsewhere, and a client of it."""

    def __init__(self, process: subprocess.Popen[str], environment: Mapping[str, str]) -> None:
        self._process = process
        self.environment = {**os.environ, **environment}
        self.client = client_of(self.environment)

    def ask(self, word: str) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(word, file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())

    def function(self, name: str) -> modal.Function[Any, Any, Any]:
        import modal

        return modal.Function.from_name("benchmark-calls", name, client=self.client)

    def cpu(self) -> float:
        """Seconds that the emulator's process has spent."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def process(kind: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    command = (sys.executable, "-m", "tests.benchmarks.emulator_served", kind)
    served = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert served.stdout is not None
        yield served, json.loads(served.stdout.readline())
    finally:
        served.communicate()


def figures(kind: str, *, scale: float = 1.0) -> Figures:
    """By name. `scale` makes every count smaller. Raises RuntimeError when the app cannot be deployed."""
    found = starting(kind, rounds=max(1, round(STARTS * scale)))
    with process(kind) as (running, said):
        served = Served(running, said["environment"])
        modal_command("deploy", served)
        found |= containers(served, rounds=max(2, round(COLD * scale)))
        found |= calls(served, scale)
        walls = [timed_command(served) for _ in range(max(1, round(5 * scale)))]
        found["`modal run`, wall, s"] = statistics.median(walls)
        served.client.close()
    return found


def starting(kind: str, *, rounds: int) -> Figures:
    """Of processes that each start one emulator."""
    starts = []
    for _ in range(rounds):
        with process(kind) as (_, said):
            starts.append(said)
    return {
        "imports of the emulator, ms": statistics.median(said["imports"] for said in starts) * 1e3,
        "`Emulator()` to ready beyond imports, ms": statistics.median(said["start"] for said in starts) * 1e3,
    }


def containers(served: Served, *, rounds: int) -> Figures:
    """From nothing to a first result, with the warm process (if there is one) warm; and the memory of what is idle."""
    nothing = served.function("nothing")
    nothing.remote()
    served.ask("forks")
    waited = []
    for _ in range(rounds):
        served.ask("kill")
        began = time.perf_counter()
        nothing.remote()
        waited.append(time.perf_counter() - began)
    mains: list[int] = served.ask("containers")
    inits = [parent(pid) for pid in mains]
    return {
        "cold start to first result, ms": statistics.median(waited) * 1e3,
        "cold start to first RPC, ms": statistics.median(served.ask("forks")) * 1e3,
        "private memory a container, MB": statistics.median(map(private, mains)) / 1e6,
        "private memory of its init, MB": statistics.median(map(private, inits)) / 1e6,
    }


def calls(served: Served, scale: float) -> Figures:
    nothing, items, mapped = (served.function(name) for name in ("nothing", "items", "mapped"))
    count, length, inputs = (max(2, round(number * scale)) for number in (CALLS, ITEMS, INPUTS))
    for _ in range(20):
        nothing.remote()
    list(items.remote_gen(10))
    list(mapped.map(range(50)))
    found: Figures = {}
    waited, spent = [], served.cpu()
    for _ in range(count):
        began = time.perf_counter()
        nothing.remote()
        waited.append(time.perf_counter() - began)
    found["warm .remote(), p50, ms"] = statistics.median(waited) * 1e3
    found["emulator's CPU a call, ms"] = (served.cpu() - spent) * 1e3 / count
    rates, spent = [], served.cpu()
    for _ in range(5):
        began = time.perf_counter()
        assert sum(1 for _ in items.remote_gen(length)) == length
        rates.append(length / (time.perf_counter() - began))
    found["generator, items/s"] = statistics.median(rates)
    found["emulator's CPU an item, µs"] = (served.cpu() - spent) * 1e6 / (5 * length)
    walls, spent = [], served.cpu()
    for _ in range(3):
        began = time.perf_counter()
        assert sum(mapped.map(range(inputs), order_outputs=False)) == inputs * (inputs - 1) // 2
        walls.append(time.perf_counter() - began)
    found[f"`.map` of {inputs:,} inputs, s"] = statistics.median(walls)
    found["emulator's CPU an input, ms"] = (served.cpu() - spent) * 1e3 / (3 * inputs)
    return found


def private(pid: int) -> int:
    """Bytes that a process shares with no other."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def timed_command(served: Served) -> float:
    began = time.perf_counter()
    modal_command("run", served)
    return time.perf_counter() - began


def modal_command(verb: str, served: Served) -> None:
    command = (sys.executable, "-m", "modal", verb, APP)
    done = subprocess.run(
        command, cwd=ROOT, env=served.environment, capture_output=True, text=True, timeout=120, check=False
    )
    if done.returncode:
        raise RuntimeError(f"modal {verb} failed:\n{done.stdout}\n{done.stderr}")


def threads(*, scale: float = 1.0) -> Figures:
    """By name, of an emulator with thread containers, a client and an app in one process."""
    command = (sys.executable, "-m", "tests.benchmarks.emulator_threads", str(scale))
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=True)
    found: Figures = json.loads(done.stdout.splitlines()[-1])
    return found


def table(found: Mapping[str, Figures]) -> str:
    """`found`: by kind of containers: those of `KINDS`, and threads."""
    lines = [f"{'':<44}{'forks':>10}{'at first':>14}{'processes':>12}{'at first':>14}{'threads':>10}{'at first':>10}"]
    for name in dict.fromkeys(name for figures in found.values() for name in figures):
        first = FIRST.get(name, ("", "", ""))
        columns = zip((shown(found[kind].get(name)) for kind in (*KINDS, "thread")), first, (10, 12, 10), strict=True)
        widths = (14, 14, 10)
        cells = [f"{now:>{width}}{then:>{widths[i]}}" for i, (now, then, width) in enumerate(columns)]
        lines.append(f"{name:<44}" + "".join(cells))
    return "\n".join((*lines, "", "at first: first measurements of the protocol prototype (2 cores, ±30 %)"))


def shown(value: float | None) -> str:
    return "" if value is None else f"{value:,.{digits(value)}f}"


def digits(value: float) -> int:
    return 0 if value >= 100 else 1 if value >= 10 else 2


if __name__ == "__main__":
    print(table({**{kind: figures(kind) for kind in KINDS}, "thread": threads()}))
