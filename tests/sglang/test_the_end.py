"""How an engine ends: it hangs in the middle of an answer, it is killed, its service is told to stop. The last tests:
they take something away."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import openai
import pytest

from tests.service.deployment import until
from tests.sglang.service import BOOT_SECONDS, Inside

if TYPE_CHECKING:
    from tests.sglang.service import Service

HELLO: Any = [{"role": "user", "content": "Hello"}]


def sdk(service: Service, *, retries: int = 0) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=retries, timeout=BOOT_SECONDS)


def stream(service: Service, *, tokens: int) -> Any:
    """An answer of just so many tokens: the model's two end tokens are forbidden."""
    return sdk(service).chat.completions.create(
        model="demo", messages=HELLO, max_tokens=tokens, logit_bias={"0": -100, "2": -100}, stream=True
    )


def heart(engine: Inside) -> int:
    """The process that computes: SGLang has one for it, beside the one that is asked; llama.cpp has but one."""
    if engine.kind == "llamacpp":
        return engine.pid
    (scheduler,) = (pid for pid in children(engine.pid) if "sglang::scheduler" in command_of(pid))
    return scheduler


def replaced(service: Service, engine: Inside, model: str) -> bool:
    return not is_there(engine.pid) and Inside.of(service.kind, model, port=service.port).pid != engine.pid


def test_engines_that_hang_and_that_are_killed_are_replaced_and_callers_are_told_or_answered_by_the_next(
    service: Service,
) -> None:
    """Both at once, each with a model of its own: most of it is waiting, for the verdict and for two boots."""
    hangs, dies = service.loaded("demo"), service.loaded("vectors")
    answer = iter(stream(service, tokens=1800))
    next(answer)
    os.kill(heart(hangs), signal.SIGSTOP)
    os.kill(victim := heart(dies), signal.SIGSTOP)  # so that it has not answered before it is killed
    with ThreadPoolExecutor() as callers:
        embedded = callers.submit(sdk(service, retries=9).embeddings.create, model="vectors", input="Hello")
        until(lambda: service.get("/models/vectors")[1].get("requests") == 1, within=60, pause=0.05)
        os.kill(victim, signal.SIGKILL)
        with pytest.raises(openai.APIError) as told:
            list(answer)
        assert told.value.code == "engine_died", "an error in the stream, behind what had been said"
        assert len(embedded.result().data[0].embedding) > 16, "it had heard nothing yet: the next engine answers it"
    assert len(list(stream(service, tokens=4))) >= 4
    assert replaced(service, hangs, "demo")
    assert replaced(service, dies, "vectors")
    log = service.log.read_text(errors="replace")
    assert "the engine of demo is ended: it did not answer" in log
    assert "the engine of vectors is gone: " in log


def test_a_service_that_is_told_to_stop_lets_answers_end_and_leaves_no_process_behind(service: Service) -> None:
    engines = [service.loaded("demo"), service.loaded("vectors")]
    family = [pid for engine in engines for pid in (engine.pid, *children(engine.pid))]
    answer = iter(stream(service, tokens=200))
    next(answer)
    service.process.terminate()
    told_to = len(service.log.read_bytes())
    *_, last = (chunk for chunk in answer if chunk.choices)
    assert last.choices[0].finish_reason == "length"
    assert service.process.wait(60) == 0
    until(lambda: not any(map(is_there, family)))
    said = service.log.read_bytes()[told_to:].decode(errors="replace")
    assert "is ended: it did not answer" not in said, "an engine that is told to end is not taken for one that hangs"


def is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def command_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


def children(pid: int) -> list[int]:
    told = [(thread / "children").read_text().split() for thread in Path(f"/proc/{pid}/task").iterdir()]
    found = [int(child) for each in told for child in each]
    return found + [descendant for child in found for descendant in children(child)]
