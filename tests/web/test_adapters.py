"""LoRA adapters are named behind their model, in every place where a model is named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from infra.settings import Models, Settings
from tests.web.conftest import MODEL
from web.adapters import served_name
from web.engines import EngineTarget
from web.errors import InvalidRequest

if TYPE_CHECKING:
    import aiohttp

    from functions.engines.scripted_server import ScriptedServer

MODELS = Models.model_validate(
    {
        "available_models": [
            {"id": "qwen", "name": "org/Qwen", "sglang": {"lora": {"adapters": {"french": {"name": "org/french"}}}}},
            {"id": "plain", "name": "org/plain:tag"},
        ]
    }
)


def target(kind: Any = "sglang") -> EngineTarget:
    return EngineTarget(url="http://engine", kind=kind, model="qwen")


@pytest.mark.parametrize("label", ["qwen:french", "org/Qwen:french"])
def test_an_adapter_is_asked_of_the_engine_of_its_model(label: str) -> None:
    found = MODELS.find(label)
    assert found is not None
    assert found.id == "qwen"
    assert served_name(label, MODELS, target()) == "qwen:french"


@pytest.mark.parametrize("label", ["qwen", "org/Qwen"])
def test_the_model_itself_is_asked_without_one(label: str) -> None:
    assert served_name(label, MODELS, target()) == "qwen"


@pytest.mark.parametrize("label", ["qwen:german", "plain:french", "qwen:", ":french", "french", "qwen:french:french"])
def test_an_adapter_that_is_not_configured_is_a_model_that_is_not_there(label: str) -> None:
    assert MODELS.find(label) is None


def test_a_name_with_a_colon_is_a_name() -> None:
    found = MODELS.find("org/plain:tag")
    assert found is not None
    assert MODELS.adapter("org/plain:tag") is None


def test_where_llama_cpp_stands_in_an_adapter_is_refused_by_name() -> None:
    with pytest.raises(InvalidRequest, match="The adapter 'french' of 'qwen:french' is not there"):
        served_name("qwen:french", MODELS, target("llamacpp"))


async def test_who_names_one_gets_its_answer_and_it_is_among_the_models(
    serve: Any, engine: ScriptedServer, http: aiohttp.ClientSession
) -> None:
    lora = {"adapters": {"french": {"name": "org/french"}}}
    models = {"available_models": [{"id": "scripted", "name": MODEL, "sglang": {"lora": lora}}]}
    served = serve(engine, settings=Settings.model_validate({"models": models}))
    body = {"model": f"{MODEL}:french", "messages": [{"role": "user", "content": "hello"}]}
    async with http.post(f"{served.url}/v1/chat/completions", json=body) as response:
        assert response.status == 200
        assert (await response.json())["model"] == f"{MODEL}:french"
    assert engine.state()["requests"][-1]["body"]["model"].endswith(":french")
    async with http.get(f"{served.url}/v1/models") as response:
        listed = (await response.json())["data"]
    assert [(one["id"], one.get("parent")) for one in listed] == [("scripted", None), ("scripted:french", "scripted")]
    async with http.get(f"{served.url}/v1/models/scripted:french") as response:
        assert await response.json() == listed[1]
    async with http.post(f"{served.url}/v1/chat/completions", json={**body, "model": "scripted:german"}) as response:
        assert response.status == 404
