"""Chunks a second through a web function and through a Server, beside the same application asked directly.

    python -m tests.benchmarks.emulator_web

One application (`emulator_web_app.py`) writes small chunks as fast as they are taken: under uvicorn on a port, behind
the emulator as a Server, and behind it as a web function, in turns. The CPU is that of this process: emulator and
client, which only reads: what the client takes of it is told by the line of the direct way.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from emulator.emulator import Emulator
from tests.benchmarks.emulator_web_app import CHUNK, command
from tests.benchmarks.processes import cpu_seconds
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
APP = "benchmark-web"
CHUNKS = {"direct": 20_000, "server": 20_000, "function": 4_000}
ROUNDS = 5
BOOT_SECONDS = 60.0


@dataclass
class Way:
    """One way to the application: chunks a second, and microseconds of this process's CPU for a chunk, by round."""

    url: str
    pid: int | None = None
    """Of the container, where the application runs in its process."""
    rates: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    runtime: list[float] = field(default_factory=list)
    """The same of the container's CPU: what Modal's own runtime and the application take."""

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)


def figures(*, rounds: int = ROUNDS) -> dict[str, Way]:
    """By name of the way. Raises RuntimeError when the app cannot be deployed or an answer is not whole."""
    with direct() as url, Emulator() as emulator:
        deploy(emulator)
        ways = {
            "direct": Way(url),
            "server": Way(emulator.web_url(APP, "Server")),
            "function": Way(emulator.web_url(APP, "function")),
        }
        for way in ways.values():
            until_up(way.url)
        (ways["function"].pid,) = [one.pid for one in emulator.containers(app=APP, function="function")]
        for _ in range(rounds):
            for name, way in ways.items():
                measure(way, CHUNKS[name])
        return ways


def measure(way: Way, count: int) -> None:
    """One round."""
    there = cpu_seconds(way.pid) if way.pid is not None else 0.0
    began, spent = time.perf_counter(), time.process_time()
    read_all(way.url, count)
    way.rates.append(count / (time.perf_counter() - began))
    way.cpu.append((time.process_time() - spent) * 1e6 / count)
    if way.pid is not None:
        way.runtime.append((cpu_seconds(way.pid) - there) * 1e6 / count)


def read_all(url: str, count: int) -> None:
    host, _, port = url.removeprefix("http://").rpartition(":")
    got = tail = b""
    size = 0
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(b"GET /?n=%d HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % count)
        while got := connection.recv(1 << 16):
            size += len(got)
            tail = (tail + got)[-5:]
    if tail != b"0\r\n\r\n" or size < count * len(CHUNK):
        raise RuntimeError(f"{url}: {size} bytes ending in {tail!r}")


def until_up(url: str) -> None:
    deadline = time.monotonic() + BOOT_SECONDS
    while True:
        try:
            return read_all(url, 10)
        except (OSError, RuntimeError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@contextmanager
def direct() -> Iterator[str]:
    port = free_port()
    process = subprocess.Popen(command(port), cwd=ROOT)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def deploy(emulator: Emulator) -> None:
    modal = Path(sys.executable).with_name("modal")
    done = subprocess.run(
        [modal, "deploy", "-m", "tests.benchmarks.emulator_web_app"],
        cwd=ROOT, env={**os.environ, **emulator.environment}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"modal deploy failed:\n{done.stdout}\n{done.stderr}")


def table(ways: dict[str, Way]) -> str:
    base = ways["direct"]
    lines = [f"{'':<10}{'chunks/s':>10}{'of direct':>11}{'CPU µs/chunk here':>20}{'in the container':>18}"]
    for name, way in ways.items():
        share = f"{way.rate / base.rate:.0%}"
        runtime = f"{statistics.median(way.runtime):.1f}" if way.runtime else ""
        lines.append(f"{name:<10}{way.rate:>10,.0f}{share:>11}{statistics.median(way.cpu):>20.1f}{runtime:>18}")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(figures()))
