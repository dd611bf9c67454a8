"""Load in short form: many streams at once leave nothing behind, and a rolling redeploy loses no request."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import threading
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest

from emulator.emulator import Emulator
from tests.benchmarks import load
from tests.benchmarks.processes import running
from tests.ports import free_port
from tests.service.deployment import deploy, scripted, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.service.deployment import Service

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

STREAMS = 300
WAVES = 3
TOKENS = 60
GAP = 0.05
"""Seconds between two tokens: a stream lasts three seconds, and all of a wave are there together."""
GROWTH = 6 * 2**20
"""Bytes by which the web process may be larger after the third wave than after the first (measured: 0.13 MiB): 10 KiB
for each stream of two waves, which one that is kept, with its request and its buffers, would exceed."""


def body(model: str, tokens: int, gap: float) -> dict[str, object]:
    asked = [{"role": "user", "content": "hello"}]
    return {"model": model, "messages": asked, "max_tokens": tokens, "x_scripted": {"tokens": tokens, "gap": gap}}


@pytest.fixture
def standalone() -> Iterator[tuple[str, int]]:
    """The service without Modal, its engine a process of its own: its address, and the web process's id."""
    port = free_port()
    environment = {
        "SERVER__HOST": "127.0.0.1", "SERVER__PORT": str(port), "MODELS__MAX_CONCURRENT_REQUESTS": str(STREAMS),
        "MODELS__AVAILABLE_MODELS": json.dumps([scripted("steady", min_containers=1)]),
        "LIMITS__DEFAULT_RATE_LIMIT_PER_MINUTE": "1000000",
    }  # fmt: skip
    command = [sys.executable, "-m", "functions.standalone"]
    with running(command, port=port, environment=environment) as pid:
        yield f"http://127.0.0.1:{port}", pid


def resident(pid: int) -> int:
    """Bytes of memory that a process has (Linux)."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) * 1024


def counted(url: str, name: str) -> float:
    """The sum of a metric over its labels."""
    with urllib.request.urlopen(url + "/metrics", timeout=30) as answer:
        text = answer.read().decode()
    return sum(float(value) for value in re.findall(rf"^{name}(?:{{[^}}]*}})? ([0-9.e+]+)$", text, re.MULTILINE))


def test_three_hundred_streams_at_once_are_answered_whole_and_counted_and_leave_no_memory_behind(
    standalone: tuple[str, int],
) -> None:
    url, pid = standalone
    load.run(url, body("steady", 2, 0.0), streams=1)  # the engine is up
    sizes = []
    for _ in range(WAVES):
        wave = load.run(url, body("steady", TOKENS, GAP), streams=STREAMS)
        assert [stream.tokens for stream in wave.streams] == [TOKENS] * STREAMS
        sizes.append(resident(pid))
    assert counted(url, "chat_completions_requests_total") == WAVES * STREAMS + 1
    assert counted(url, "chat_generated_tokens_total") == WAVES * STREAMS * TOKENS + 2
    assert counted(url, "chat_completions_errors_total") == 0
    assert counted(url, "requests_running") == 0
    assert sizes[-1] - sizes[0] < GROWTH, sizes


class Callers:
    """Callers who ask all the time, each one answer after another, and keep what went wrong."""

    def __init__(self, url: str, *, count: int) -> None:
        self.wrong: list[str] = []
        self.answered = [0] * count
        self._url = url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._ask_all()))

    def __enter__(self) -> Callers:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def wait_for_more(self, answers: int) -> None:
        """Return once each has had so many more answers, or something went wrong."""
        aims = [count + answers for count in self.answered]
        waiting = threading.Event()
        for _ in range(1200):
            if self.wrong or all(count >= aim for count, aim in zip(self.answered, aims, strict=True)):
                return
            waiting.wait(0.1)
        raise TimeoutError(f"{self.answered} answers of {aims} in two minutes")

    async def _ask_all(self) -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=120)) as session:
            await asyncio.gather(*(self._ask(session, position) for position in range(len(self.answered))))

    async def _ask(self, session: aiohttp.ClientSession, position: int) -> None:
        wanted = "".join(f"t{number} " for number in range(10))
        while not self._stop.is_set():
            request = body("steady", 10, 0.05) | {"stream": position % 2 == 0}
            try:
                async with session.post(f"{self._url}/v1/chat/completions", json=request) as answer:
                    text = await answer.text()
            except (aiohttp.ClientError, TimeoutError) as error:
                self.wrong.append(repr(error))
                continue
            said = "".join(re.findall(r'"content":\s?"((?:t\d+ )+)"', text))
            if answer.status != 200 or said != wanted:
                self.wrong.append(f"{answer.status}: {text[-500:]}")
            self.answered[position] += 1


def test_a_rolling_redeploy_under_load_loses_no_request() -> None:
    models = [scripted("steady", scaledown_window=300)]
    with Emulator() as emulator:
        service = deploy(emulator, models)
        with Callers(service.url, count=8) as callers:
            callers.wait_for_more(2)
            before = web_containers(service)
            deploy(emulator, models, strategy="recreate")
            callers.wait_for_more(4)
            assert before, "somebody answered"
            until(lambda: not before & web_containers(service), within=60)  # they have left: others answer since
            callers.wait_for_more(1)
    assert callers.wrong == []


def web_containers(service: Service) -> set[str]:
    return {container.task_id for container in service.emulator.containers(function="Web")}
