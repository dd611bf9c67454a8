"""An engine that lives and does not serve is replaced, on Modal and without it; whoever it was answering is told."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING, Any

import aiohttp
import openai
import pytest

from emulator.emulator import Emulator
from tests.functions.test_standalone import running
from tests.service.deployment import deploy, scripted, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

MODELS = [
    scripted("steady", scaledown_window=300),
    scripted("failing", "--script", '{"error_after": 0}', scaledown_window=300),
]
BRISK = {
    "HEALTH__PROBE_SECONDS": "0.2", "HEALTH__PROBE_TIMEOUT": "4", "HEALTH__FAILURES": "2",
    "HEALTH__ANSWER_SECONDS": "0.4",
}  # fmt: skip


def words(lines: list[str]) -> list[str]:
    chunks = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    texts = (choice["delta"].get("content") or "" for chunk in chunks for choice in chunk.get("choices", ()))
    return [word for text in texts for word in text.split()]


async def hung_in_a_stream(url: str, engines: Callable[[], list[int]]) -> list[str]:
    """The lines of a stream whose engine is stopped, not ended, after three words."""
    messages = [{"role": "user", "content": "hello"}]
    body: dict[str, Any] = {
        "model": "steady", "messages": messages, "stream": True, "x_scripted": {"tokens": 100_000, "gap": 0.02},
    }  # fmt: skip
    lines: list[str] = []
    async with aiohttp.ClientSession() as session, session.post(f"{url}/v1/chat/completions", json=body) as answer:
        async for line in answer.content:
            lines.append(line.decode().strip())
            if len(words(lines)) == 3:
                for pid in engines():
                    os.kill(pid, signal.SIGSTOP)
    return [line for line in lines if line]


def is_told_and_the_next_is_served(lines: list[str], url: str) -> None:
    error = json.loads(next(line for line in reversed(lines) if line.startswith("data: {"))[6:])["error"]
    assert (error["code"], error["type"]) == ("engine_died", "server_error")
    assert "data: [DONE]" not in lines
    assert asked(url, "steady") == "t0 t1 "


def asked(url: str, model: str) -> str | None:
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=60)
    answer = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "hello"}], max_tokens=2, stream=False
    )
    return answer.choices[0].message.content


def fails_and_is_gone(url: str, engines: Callable[[], list[int]]) -> None:
    with pytest.raises(openai.APIStatusError):
        asked(url, "failing")
    first = engines()
    until(lambda: not set(first) & set(engines()), within=60)


async def test_on_modal_it_goes_with_its_container() -> None:
    with Emulator() as emulator:
        service = deploy(emulator, MODELS, **BRISK)
        lines = await hung_in_a_stream(service.url, lambda: service.engine_processes("steady"))
        is_told_and_the_next_is_served(lines, service.url)
        fails_and_is_gone(service.url, lambda: service.engine_processes("failing"))


async def test_without_modal_it_is_started_again(tmp_path: Path) -> None:
    with running(tmp_path / "log", MODELS, **BRISK) as service:
        lines = await hung_in_a_stream(service.url, lambda: service.engines("--model-name steady"))
        is_told_and_the_next_is_served(lines, service.url)
        fails_and_is_gone(service.url, lambda: service.engines("--model-name failing"))
        log = service.log.read_text()
    assert "the engine of steady is ended: it did not answer 2 health checks in a row" in log
    assert "the engine of failing is ended: it answered 2 requests in a row with errors of its own" in log
