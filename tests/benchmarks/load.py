"""A load generator for OpenAI chat streams: counts tokens and times as a caller sees them."""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Stream:
    """One answer: seconds to its first token, seconds in all, and tokens (events with content)."""

    first: float
    total: float
    tokens: int


@dataclass(frozen=True)
class Run:
    """Several answers that were streamed at once. `wall` in seconds."""

    streams: tuple[Stream, ...]
    wall: float

    @property
    def tokens_per_second(self) -> float:
        return sum(stream.tokens for stream in self.streams) / self.wall

    @property
    def first_token(self) -> float:
        """Median, in seconds."""
        return statistics.median(stream.first for stream in self.streams)


async def stream(
    session: aiohttp.ClientSession, url: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> Stream:
    """Stream one chat completion. Raises RuntimeError when it does not end with `[DONE]`."""
    started = time.perf_counter()
    first = 0.0
    tokens = 0
    done = False
    async with session.post(f"{url}/v1/chat/completions", json={**body, "stream": True}, headers=headers) as answer:
        if answer.status != 200:
            raise RuntimeError(f"{answer.status}: {await answer.text()}")
        async for line in answer.content:
            if line.startswith(b"data: [DONE]"):
                done = True
            elif line.startswith(b"data:") and b'"content":"' in line and b'"content":""' not in line:
                tokens += 1
                first = first or time.perf_counter() - started
            elif b'"error"' in line:
                raise RuntimeError(line.decode())
    if not done:
        raise RuntimeError(f"the stream was cut after {tokens} tokens")
    return Stream(first=first, total=time.perf_counter() - started, tokens=tokens)


async def _run(url: str, body: Mapping[str, Any], *, streams: int, headers: Mapping[str, str] | None = None) -> Run:
    """`streams` chat completions at once."""
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=300)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, read_bufsize=2**18) as session:
        started = time.perf_counter()
        done = await asyncio.gather(*(stream(session, url, body, headers) for _ in range(streams)))
        return Run(streams=tuple(done), wall=time.perf_counter() - started)


def run(url: str, body: Mapping[str, Any], *, streams: int, headers: Mapping[str, str] | None = None) -> Run:
    """`streams` chat completions at once, from a process of their own: a caller shares no interpreter with what it
    measures. Raises RuntimeError with what it said when it fails."""
    task = json.dumps({"url": url, "body": body, "streams": streams, "headers": headers})
    command = [sys.executable, "-m", "tests.benchmarks.load"]
    done = subprocess.run(command, input=task, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    answer = json.loads(done.stdout)
    return Run(streams=tuple(Stream(**item) for item in answer["streams"]), wall=answer["wall"])


def main() -> None:
    task = json.load(sys.stdin)
    done = asyncio.run(_run(task.pop("url"), task.pop("body"), **task))
    json.dump({"streams": [asdict(item) for item in done.streams], "wall": done.wall}, sys.stdout)


if __name__ == "__main__":
    main()
