"""llama.cpp as a server of embeddings, with the demo model's file: any will do to see what the server makes of it."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError

import pytest

from functions.demo import MODEL_FOLDER
from functions.engines.base import Address, EngineStartError
from functions.engines.llamacpp import LlamaCppEngine
from infra.settings import Model
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator


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


def test_a_file_that_does_not_say_how_it_is_pooled_does_not_start() -> None:
    engine = make_engine()
    with pytest.raises(EngineStartError, match="set the model's `pooling`"):
        engine.start()
    assert not engine.healthy()
