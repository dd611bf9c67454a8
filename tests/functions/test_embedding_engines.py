"""llama.cpp as a server of embeddings, with the demo model's file: any will do to see what the server makes of it."""

from __future__ import annotations

import asyncio
import json
import math
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError

import openai
import pytest

from functions.demo import MODEL_FOLDER
from functions.engines.base import Address, EngineStartError
from functions.engines.llamacpp import LlamaCppEngine
from infra.settings import Model, Models, Settings
from tests.configured_engines import ConfiguredEngines
from tests.ports import free_port
from tests.web.conftest import running, web_loop
from web.application import create_application
from web.engines import EngineTarget
from web.services import Services

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.web.conftest import Served

__all__ = ["web_loop"]


def make_engine(*, max_requests: int = 3, **options: Any) -> LlamaCppEngine:
    """Three slots: a number that divides no usual batch."""
    model = Model(id="demo", name="demo", context_length=512, startup_timeout=30, embedding=True, **options)
    address = Address(host="127.0.0.1", port=free_port())
    return LlamaCppEngine(model, source=str(MODEL_FOLDER), address=address, api_key="k", max_requests=max_requests)


@pytest.fixture(scope="module")
def engine() -> Iterator[LlamaCppEngine]:
    engine = make_engine(pooling="mean")
    engine.start()
    yield engine
    engine.stop()


@pytest.fixture(scope="module")
def served(engine: LlamaCppEngine, web_loop: asyncio.AbstractEventLoop) -> Iterator[Served]:
    model = Model(id="demo", name="demo", context_length=512, embedding=True, matryoshka=True, local_engine="llamacpp")
    settings = Settings(models=Models(available_models=(model,)))
    target = EngineTarget(url=engine.address.url, kind="llamacpp", model="demo", headers={"authorization": "Bearer k"})
    engines = ConfiguredEngines(settings.models, {"demo": target})
    with running(create_application(Services(settings=settings, engines=engines)), web_loop) as served:
        yield served


def embed(engine: LlamaCppEngine, text: Any) -> Any:
    assert engine.process is not None
    body = json.dumps({"input": text}).encode()
    with engine.process.request("POST", "/v1/embeddings", body=body, timeout=30) as answer:
        return json.load(answer)


def test_a_text_becomes_a_vector_of_length_one(engine: LlamaCppEngine) -> None:
    told = embed(engine, ["hello there", "goodbye"])
    vectors = [entry["embedding"] for entry in told["data"]]
    assert len(vectors) == 2
    assert vectors[0] != vectors[1]
    assert all(math.isclose(sum(value * value for value in vector), 1, rel_tol=1e-3) for vector in vectors)
    assert told["usage"]["prompt_tokens"] > 2


def test_a_text_as_long_as_the_context_is_embedded_whole(engine: LlamaCppEngine) -> None:
    assert embed(engine, [[300] * 500])["usage"]["prompt_tokens"] == 500
    with pytest.raises(HTTPError):
        embed(engine, [[300] * 600])


async def test_by_the_sdk_and_through_the_service_they_are_the_same(engine: LlamaCppEngine, served: Served) -> None:
    client = served.sdk().embeddings
    default = await client.create(model="demo", input=["hello there", "goodbye"])
    floats = await client.create(model="demo", input=["hello there", "goodbye"], encoding_format="float")
    theirs = [
        entry["embedding"] for entry in (await asyncio.to_thread(embed, engine, ["hello there", "goodbye"]))["data"]
    ]
    for entry, same, their in zip(default.data, floats.data, theirs, strict=True):
        assert all(math.isclose(a, b, abs_tol=1e-6) for a, b in zip(entry.embedding, same.embedding, strict=True))
        assert all(math.isclose(a, b, abs_tol=1e-3) for a, b in zip(entry.embedding, their, strict=True))
    assert default.usage.prompt_tokens > 2
    (shorter,) = (await client.create(model="demo", input="hello there", dimensions=16)).data
    assert len(shorter.embedding) == 16
    assert math.isclose(sum(value * value for value in shorter.embedding), 1, rel_tol=1e-5)


@pytest.mark.parametrize(
    ("given", "code"), [("word " * 600, "context_length_exceeded"), ([5_000_000], None), ([[1], [5_000_000]], None)]
)
async def test_what_it_cannot_embed_is_the_caller_s_mistake(served: Served, given: Any, code: str | None) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await served.sdk().embeddings.create(model="demo", input=given)
    assert (caught.value.param, caught.value.code) == ("input", code)


def test_a_file_that_does_not_say_how_it_is_pooled_does_not_start() -> None:
    engine = make_engine()
    with pytest.raises(EngineStartError, match=r"\(Pooling type 'none' .*\); set the model's `pooling`"):
        engine.start()
    assert not engine.healthy()
