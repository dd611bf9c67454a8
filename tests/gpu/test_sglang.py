"""SGLang as production runs it: it starts, streams, survives that its memory is released and taken back, and is hardly
slower behind the service."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from tests.benchmarks import beside_sglang
from tests.benchmarks.load import run
from tests.gpu import models
from tests.gpu.engine import Place, Running, running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.benchmarks.load import Stream

PLACES = 64
FLOOR = 0.98
"""Of SGLang's own server's throughput, and of its time to the first token over the service's."""


@pytest.fixture(scope="module", params=["demo", "big"])
def model(request: pytest.FixtureRequest, place: Place, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    if request.param == "demo":
        return models.demo(device=place.device)
    if place.device == "cpu":
        pytest.skip("a model of eight billion parameters wants a GPU")
    return models.eight_billion(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def engine(place: Place, model: dict[str, Any]) -> Iterator[Running]:
    with running(place, model, places=PLACES) as engine:
        print(f"\n{model['id']} on {place.device}: {engine.boot}")
        yield engine


def answer(engine: Running, model: dict[str, Any]) -> str:
    """What it says to the same question, always: the most likely tokens."""
    body = beside_sglang.body(model["id"], tokens=32)
    headers = {"authorization": f"Bearer {engine.key}", "content-type": "application/json"}
    request = urllib.request.Request(f"{engine.url}/v1/chat/completions", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=120) as told:
        return str(json.load(told)["choices"][0]["message"]["content"])


def streamed(engine: Running, model: dict[str, Any]) -> Stream:
    """An answer as its caller sees it."""
    body = beside_sglang.body(model["id"], tokens=32)
    headers = {"authorization": f"Bearer {engine.key}"}
    return run(engine.url, body, streams=1, headers=headers).streams[0]


def test_it_starts_and_streams(engine: Running, model: dict[str, Any]) -> None:
    assert engine.tell("healthy") is True
    assert streamed(engine, model).tokens > 1


def test_it_survives_that_its_memory_is_released_and_resumed(
    engine: Running, model: dict[str, Any], place: Place
) -> None:
    if place.device == "cpu":
        with pytest.raises(RuntimeError, match="no memory saver"):
            engine.tell("sleep")
        return
    before, said = memory_used(), answer(engine, model)
    engine.tell("sleep")
    assert memory_used() < before / 2
    engine.tell("wake")
    assert engine.tell("healthy") is True
    assert answer(engine, model) == said


def test_the_service_before_it_is_as_fast_as_it_is(engine: Running, model: dict[str, Any], place: Place) -> None:
    figures = beside_sglang.measure(engine.url, key=engine.key, model=model["id"], context=models.CONTEXT)
    print("\n" + beside_sglang.table(figures, title=f"{model['id']} on {place.device}"))
    if place.device == "cuda":  # on a CPU the service and its callers take from the engine what they cost
        slow = [each for each in figures if min(each.throughput, each.first_token) < FLOOR]
        assert not slow, beside_sglang.table(slow, title=f"below {FLOOR}")


def memory_used() -> int:
    """MiB of all GPUs."""
    command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    return sum(map(int, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()))
