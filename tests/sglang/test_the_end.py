"""How an engine ends: killed in the middle of an answer, and with a service that is told to stop. The last tests: they
take something away."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import openai
import pytest

from tests.service.deployment import until
from tests.sglang.service import BOOT_SECONDS, Inside

if TYPE_CHECKING:
    from tests.sglang.service import Service

HELLO: Any = [{"role": "user", "content": "Hello"}]


def stream(service: Service, *, tokens: int) -> Any:
    """An answer of just so many tokens: the model's two end tokens are forbidden."""
    client = openai.OpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0, timeout=BOOT_SECONDS)
    return client.chat.completions.create(
        model="demo", messages=HELLO, max_tokens=tokens, logit_bias={"0": -100, "2": -100}, stream=True
    )


def is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_who_is_answered_while_it_is_killed_is_told_and_the_next_one_gets_another(service: Service) -> None:
    engine = service.loaded("demo")
    answer = iter(stream(service, tokens=1800))
    next(answer)
    os.kill(engine.pid, signal.SIGKILL)
    with pytest.raises(openai.APIError):
        list(answer)
    assert len(list(stream(service, tokens=4))) >= 4
    assert Inside.of(service.kind, "demo", port=service.port).pid != engine.pid


def test_a_service_that_is_told_to_stop_lets_answers_end_and_leaves_no_process_behind(service: Service) -> None:
    engine = service.loaded("demo")
    family = [engine.pid, *children(engine.pid)]
    answer = iter(stream(service, tokens=200))
    next(answer)
    service.process.terminate()
    *_, last = (chunk for chunk in answer if chunk.choices)
    assert last.choices[0].finish_reason == "length"
    assert service.process.wait(60) == 0
    until(lambda: not any(map(is_there, family)))


def children(pid: int) -> list[int]:
    told = [(thread / "children").read_text().split() for thread in Path(f"/proc/{pid}/task").iterdir()]
    found = [int(child) for each in told for child in each]
    return found + [descendant for child in found for descendant in children(child)]
