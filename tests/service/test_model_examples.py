"""The configurations of models in docs/models: they are deployed as they stand, and their services answer."""

from __future__ import annotations

import json
import tomllib
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from emulator.emulator import Emulator
from functions.images import SGLANG_IMAGE
from functions.names import server_name
from infra.gpus import split
from tests.model_examples import FILES, examples
from tests.service.deployment import deploy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modal_proto import api_pb2

    from infra.models import Model

pytestmark = pytest.mark.slow

EXAMPLES = examples()


def tables() -> list[dict[str, Any]]:
    return [tomllib.loads(file.read_text("utf-8"))["models"]["available_models"][0] for file in FILES]


@pytest.fixture(scope="module")
def said() -> list[str]:
    """What the emulator has said."""
    return []


@pytest.fixture(scope="module")
def emulator(said: list[str]) -> Iterator[Emulator]:
    with Emulator(log=lambda line: said.append(line.text)) as emulator:
        yield emulator


def servers(emulator: Emulator) -> dict[str, api_pb2.Function]:
    """What the client declared of each model's Server."""
    return {function.tag: function.definition for function in emulator.core.state.functions.values()}


def test_each_is_a_server_on_its_gpu_with_sglangs_own_image_and_its_scaling(
    emulator: Emulator, said: list[str]
) -> None:
    deploy(emulator, tables(), DEPLOY__TARGET="modal", SECURITY__ALLOW_PUBLIC="true")
    assert f"{SGLANG_IMAGE} is not pulled" in "\n".join(said)
    found = servers(emulator)
    for model in EXAMPLES:
        server = found[server_name(model.id)]
        name, count = split(model.gpu)
        assert (server.resources.gpu_config.gpu_type, server.resources.gpu_config.count) == (name, count)
        assert server.autoscaler_settings.target_concurrency_float == model.scaling.target_concurrency
        assert server.max_concurrent_inputs == model.scaling.max_concurrency
        settings, scaling = server.autoscaler_settings, model.scaling
        assert (settings.max_containers, settings.buffer_containers, settings.scaledown_window) == (
            scaling.max_containers, scaling.buffer_containers, scaling.scaledown_window,
        )  # fmt: skip
        assert list(server.scheduler_placement.regions) == list(model.container.regions)
        assert server.resources.memory_mb == (model.container.memory or server.resources.memory_mb)


def test_the_service_before_them_answers_for_each(emulator: Emulator) -> None:
    """Engines stand in for theirs: what is asked is whether the configuration makes a service."""
    scripted = [{**table, "local_engine": "scripted"} for table in tables()]
    service = deploy(emulator, scripted)
    for model in EXAMPLES:
        assert answer(service.url, model).startswith("{")


def answer(url: str, model: Model) -> str:
    body = {"model": model.name, "messages": [{"role": "user", "content": '{"tokens": 3}'}], "max_tokens": 8}
    request = urllib.request.Request(
        f"{url}/v1/chat/completions", data=json.dumps(body).encode(), headers={"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=120) as response:
        assert response.status == 200
        return str(response.read().decode())
