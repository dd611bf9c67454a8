"""Callers in a process of their own, at the cost of a read per packet: times, and every event that they were sent.

    python -m tests.benchmarks.callers < task.json

Each of `callers` asks `answers` times, one after another over one connection; they begin evenly over `ramp` seconds.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import uvloop

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[2]
FIRST_TOKEN = b'"t0 "'
"""The scripted engine's first token, as JSON: gateways differ in everything around it."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What the callers do. `ramp`: in seconds."""

    url: str
    body: Mapping[str, Any]
    callers: int = 1
    answers: int = 1
    ramp: float = 0.0
    key: str = "none"

    @property
    def path(self) -> str:
        return f"{self.url}/v1/chat/completions"


@dataclass(frozen=True, kw_only=True)
class Heard:
    """What they heard. `first`: seconds to the first token, of each answer that was streamed; `total`: to its end.
    `events`: SSE events in all. `wall`: seconds from the first request to the last byte."""

    first: list[float]
    total: list[float]
    events: int
    wall: float


class CallerError(RuntimeError):
    """A gateway did not answer as it should."""


def call(task: Task) -> Heard:
    """Run the callers in a process of their own. Raises CallerError."""
    command = [sys.executable, "-m", "tests.benchmarks.callers"]
    done = subprocess.run(
        command, cwd=ROOT, input=json.dumps(asdict(task)), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise CallerError(done.stderr.strip().splitlines()[-1])
    return Heard(**json.loads(done.stdout))


async def _call(task: Task) -> Heard:
    connector = aiohttp.TCPConnector(limit=0)
    headers = {"Authorization": f"Bearer {task.key}"}
    first: list[float] = []
    total: list[float] = []
    events = 0

    async def caller(session: aiohttp.ClientSession, delay: float) -> None:
        nonlocal events
        await asyncio.sleep(delay)
        for _ in range(task.answers):
            asked = time.perf_counter()
            at, said = await _answer(session, task)
            total.append(time.perf_counter() - asked)
            if task.body.get("stream"):
                first.append(at - asked)
                events += said.count(b"\ndata:") + said.startswith(b"data:")

    timeout = aiohttp.ClientTimeout(total=120)
    async with aiohttp.ClientSession(connector=connector, headers=headers, timeout=timeout) as session:
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for position in range(task.callers):
                group.create_task(caller(session, task.ramp * position / task.callers))
        return Heard(first=first, total=total, events=events, wall=time.perf_counter() - began)


async def _answer(session: aiohttp.ClientSession, task: Task) -> tuple[float, bytes]:
    """When the first token came, and everything that came."""
    at = 0.0
    said: list[bytes] = []
    async with session.post(task.path, json=task.body) as response:
        async for data in response.content.iter_any():
            said.append(data)
            if not at and FIRST_TOKEN in data:
                at = time.perf_counter()
    whole = b"".join(said)
    if response.status != 200:
        raise CallerError(f"{response.status}: {whole[:300]!r}")
    if task.body.get("stream") and (not at or not whole.endswith(b"data: [DONE]\n\n")):
        raise CallerError(f"a stream was not whole: {whole[-300:]!r}")
    return at, whole


def main() -> None:
    try:
        heard = uvloop.run(_call(Task(**json.load(sys.stdin))))
    except* (CallerError, aiohttp.ClientError, OSError, TimeoutError) as group:
        sys.exit(f"{group.exceptions[0]!r}"[:500])
    json.dump(asdict(heard), sys.stdout)


if __name__ == "__main__":
    main()
