"""What a deployment's metrics say is what its callers have seen, however many containers came and went meanwhile."""

from __future__ import annotations

import json
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse

from emulator.emulator import Emulator
from infra.aws import Clients
from infra.exporter import Exporter
from infra.settings import Model, Models, Settings, State
from tests.service.deployment import APP, deploy, scripted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.service.deployment import Service

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

CALLERS = 6
AT_ONCE = 2
"""Requests that one web container takes."""
PATH = "/v1/chat/completions"

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Callers:
    """So many callers, each asking again and again until told to stop, who count what they get."""

    def __init__(self, service: Service) -> None:
        self.answers = self.tokens = 0
        self._service = service
        self._lock = threading.Lock()

    def ask_until(self, enough: threading.Event) -> None:
        while True:
            body = {"model": "steady", "stream": True, "messages": [{"role": "user", "content": "hello"}],
                    "x_scripted": {"tokens": 20, "gap": 0.05, "prompt_tokens": 7}}  # fmt: skip
            request = urllib.request.Request(self._service.url + PATH, data=json.dumps(body).encode())
            with urllib.request.urlopen(request, timeout=120) as answer:
                lines = [line for line in answer if line.startswith(b"data: {")]
            said = [json.loads(line[6:])["choices"] for line in lines]
            with self._lock:
                self.answers += 1
                self.tokens += sum(bool(choices and choices[0]["delta"].get("content")) for choices in said)
            if enough.is_set():
                return

    def scale(self, containers: int) -> None:
        """Ask until so many web containers were there at once, and return when all of them are gone."""
        emulator, enough = self._service.emulator, threading.Event()
        with ThreadPoolExecutor(CALLERS) as pool:
            asking = [pool.submit(self.ask_until, enough) for _ in range(CALLERS)]
            try:
                emulator.wait(lambda: len(emulator.containers(app=APP, function="Web")) >= containers, within=90)
            finally:
                enough.set()
            for one in asking:
                one.result()
        emulator.wait(lambda: not emulator.containers(app=APP), within=90)


def samples(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parse(text)
        for sample in family.samples
    }


def of(told: Samples, name: str, **labels: str) -> float:
    return told[name, frozenset(labels.items())]


def exporter(environment: Mapping[str, str]) -> Exporter:
    """As it runs outside: with the table, and no way to Modal."""
    settings = Settings(
        models=Models(available_models=(Model(id="steady", name="x"),)), state=State(table=f"{APP}-state")
    )
    names = {"region_name": "AWS_REGION", "aws_access_key_id": "AWS_ACCESS_KEY_ID",
             "aws_secret_access_key": "AWS_SECRET_ACCESS_KEY", "endpoint_url": "AWS_ENDPOINT_URL"}  # fmt: skip
    return Exporter(settings, Clients(**{name: environment[variable] for name, variable in names.items()}))


def counts(told: Samples, callers: Callers) -> None:
    """Every number that callers have one for is theirs."""
    model = {"model": "steady"}
    for name in ("chat_completions_requests_total", "time_to_first_token_seconds_count",
                 "e2e_request_latency_seconds_count", "chat_inference_duration_seconds_count"):  # fmt: skip
        assert of(told, name, **model) == callers.answers, name
    for name in ("generation_tokens_total", "chat_generated_tokens_total"):
        assert of(told, name, **model) == callers.tokens, name
    assert of(told, "prompt_tokens_total", **model) == 7 * callers.answers
    assert of(told, "inter_token_latency_seconds_count", **model) == callers.tokens - callers.answers
    assert of(told, "http_requests_total", route=PATH, method="POST", status="200") == callers.answers


def test_from_zero_to_three_web_containers_and_back_twice_and_every_count_is_the_callers_own() -> None:
    settings: dict[str, Any] = {
        "STATE__KIND": "aws",
        "METRICS__PUBLISH_INTERVAL": "300",  # only what is written at the end can be there
        "WEB__MAX_CONCURRENT_REQUESTS": str(AT_ONCE),
        "WEB__SCALING": json.dumps({"max_containers": 3, "scaledown_window": 2}),
    }
    with Emulator() as emulator:
        service = deploy(emulator, [scripted("steady", scaledown_window=2)], **settings)
        outside, callers = exporter(emulator.environment), Callers(service)
        before: Samples = {}
        for round_ in (1, 2):
            callers.scale(3)
            told = samples(outside.answer("")[0].decode())
            counts(told, callers)
            assert of(told, "web_containers") == of(told, "engine_containers", model="steady") == 0
            assert of(told, "web_container_starts_total") >= 3 * round_
            assert of(told, "engine_generation_tokens_total", model="steady") >= callers.tokens
            ready = of(told, "engine_boot_seconds_count", model="steady", phase="ready")
            assert ready == of(told, "engine_container_starts_total", model="steady") >= round_
            assert of(told, "cold_start_seconds_count", model="steady") >= round_
            assert not emulator.containers(app=APP), "no scrape wakes anything"
            fallen = {key for key, value in before.items() if told.get(key, 0) < value and "containers" not in key[0]}
            assert not fallen
            before = told
        with urllib.request.urlopen(service.url + "/metrics", timeout=60) as answer:
            told = samples(answer.read().decode())
        counts(told, callers)
        assert of(told, "web_containers") == 1
        _a_killed_container_takes_along_what_it_had_not_written(service, outside, callers)


def _a_killed_container_takes_along_what_it_had_not_written(
    service: Service, outside: Exporter, callers: Callers
) -> None:
    emulator, enough = service.emulator, threading.Event()
    enough.set()
    callers.ask_until(enough)
    written = callers.answers
    with urllib.request.urlopen(service.url + "/metrics", timeout=60):
        pass  # which has it written down: as the interval does, which is long here
    callers.ask_until(enough)
    for container in emulator.containers(app=APP, function="Web"):
        emulator.kill_container(container.task_id)
    emulator.wait(lambda: not emulator.containers(app=APP, function="Web"), within=60)
    told = samples(outside.answer("")[0].decode())
    there = of(told, "chat_completions_requests_total", model="steady")
    assert written <= there <= callers.answers
