"""An engine behind the service: its health, its prefix cache, its metrics, its embeddings."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import openai
import pytest

from tests.sglang.differences import expected
from tests.sglang.service import CONTEXT

if TYPE_CHECKING:
    from tests.sglang.service import Service

HELLO: Any = [{"role": "user", "content": "Hello"}]


@pytest.fixture
def sdk(service: Service) -> openai.OpenAI:
    service.loaded("demo")
    return openai.OpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0, timeout=120)


def test_it_says_that_it_is_well_and_takes_nobody_without_its_key(service: Service) -> None:
    engine = service.loaded("demo")
    assert engine.get("/health")[0] == 200
    assert service.get("/readiness")[0] == 200
    engine.key = "another"
    assert engine.get("/v1/models")[0] == 401


def test_the_second_turn_finds_the_first_in_its_prefix_cache(sdk: openai.OpenAI) -> None:
    system = {"role": "system", "content": "A conversation that no other test has. " * 8}
    talk: Any = [system, *HELLO]
    first = sdk.chat.completions.create(model="demo", messages=talk, temperature=0)
    talk += [first.choices[0].message.model_dump(include={"role", "content"}), {"role": "user", "content": "Thanks"}]
    second = sdk.chat.completions.create(model="demo", messages=talk, temperature=0)
    assert first.usage and second.usage and second.usage.prompt_tokens_details
    assert (second.usage.prompt_tokens_details.cached_tokens or 0) >= first.usage.prompt_tokens - 1


def test_a_seed_makes_it_repeat_itself_or_not(service: Service, sdk: openai.OpenAI) -> None:
    any_of = {str(token): 100 for token in range(300, 340)}  # it is sure of none of these

    def wild() -> str | None:
        told = sdk.chat.completions.create(
            model="demo", messages=HELLO, temperature=2, seed=7, max_tokens=24, logit_bias=any_of
        )
        return told.choices[0].message.content

    assert (wild() == wild()) is expected("seed", service.kind)


def test_more_tokens_than_the_context_has_room_for(service: Service, sdk: openai.OpenAI) -> None:
    bias = {"0": -100, "2": -100}
    most_of_it = " ".join(f"w{number}" for number in range(500))
    try:
        told = sdk.completions.create(model="demo", prompt=most_of_it, max_tokens=CONTEXT, logit_bias=bias)
        outcome = str(told.choices[0].finish_reason)
    except openai.BadRequestError as error:
        assert error.code == "context_length_exceeded"
        outcome = "refused"
    assert outcome == expected("no room", service.kind)


def test_its_own_metrics(service: Service) -> None:
    status, text = service.loaded("demo").get("/metrics")
    assert status == 200
    assert f"\n{expected('metrics', service.kind)}" in text


def test_embeddings_have_length_one_and_a_text_has_always_the_same(service: Service, sdk: openai.OpenAI) -> None:
    service.loaded("vectors")
    told = sdk.embeddings.create(model="vectors", input=["Hello there", "Goodbye", "Hello there"])
    first, other, same = (entry.embedding for entry in told.data)
    assert math.isclose(sum(value * value for value in first), 1, rel_tol=1e-3)
    assert math.dist(first, same) < 1e-2 < math.dist(first, other)
    assert told.usage.prompt_tokens > 0
    (short,) = sdk.embeddings.create(model="vectors", input="Hello there", dimensions=16).data
    assert len(short.embedding) == 16
