"""What callers get of an engine through the service, by OpenAI's SDK: llama.cpp's tests, before either engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import openai
import pytest

from tests.functions import test_llamacpp_answers as shared
from tests.functions.test_llamacpp_answers import (
    TestLogprobs,
    TestToolsAreCalledWhenTheyMustBe,
    ask,
    test_a_stop_string_ends_it_and_is_not_told,
)
from tests.sglang.differences import expected

if TYPE_CHECKING:
    from tests.sglang.service import Service
    from tests.web.conftest import Served

__all__ = ["TestLogprobs", "TestToolsAreCalledWhenTheyMustBe", "test_a_stop_string_ends_it_and_is_not_told"]


@pytest.mark.parametrize(
    "penalty", [{"frequency_penalty": 2}, {"presence_penalty": 2}, {"extra_body": {"repetition_penalty": 2}}],
    ids=["frequency", "presence", "repetition"],
)  # fmt: skip
async def test_a_penalty_changes_what_is_said_and_leaves_the_engine_well(
    served: Served, service: Service, penalty: Any
) -> None:
    """SGLang has torch compile one of them when it is first asked for: one that cannot be ends its scheduler."""
    before = service.loaded("demo").pid
    for less in range(31):
        # Of which it is sure is the model's own: somewhere on the way from one half to the other a word is as likely as
        # one that was not said yet, and the penalty decides.
        any_of = {str(token): 100 if token < 320 else 100 - less for token in range(300, 340)}
        forced = {"max_tokens": 30, "logit_bias": any_of}
        plain, penalized = [(await ask(served, **forced, **more)).choices[0].message.content for more in ({}, penalty)]
        if plain != penalized:
            break
    else:
        pytest.fail("nothing is said in another way")
    assert service.loaded("demo").pid == before


async def test_a_repetition_penalty_above_two(served: Served, service: Service) -> None:
    try:
        await ask(served, max_tokens=1, extra_body={"repetition_penalty": 2.5})
        outcome = "taken"
    except openai.BadRequestError as error:
        assert "repetition_penalty" in error.message
        outcome = "refused"
    assert outcome == expected("penalty above two", service.kind)


class TestJson(shared.TestJson):
    async def test_what_its_grammar_cannot_hold_is_a_400_that_names_the_field(self, served: Served) -> None:  # type: ignore[override]
        pattern = {"type": "string", "pattern": "^([a-z$"}
        await super().test_what_its_grammar_cannot_hold_is_a_400_that_names_the_field(served, pattern)

    async def test_a_schema_that_refers_to_nothing_but_itself(self, served: Served, service: Service) -> None:
        wanted = {"type": "json_schema", "json_schema": {"name": "plan", "schema": {"$ref": "#"}}}
        answer: Any = None
        try:
            answer = (await ask(served, response_format=wanted)).choices[0].message.content
        except openai.BadRequestError as error:
            assert error.param == "response_format"
        assert answer == expected("schema of itself", service.kind)


class TestTokens(shared.TestTokens):
    async def test_an_id_beyond_the_vocabulary_is_the_callers_mistake(  # type: ignore[override]
        self, served: Served, service: Service
    ) -> None:
        text: Any = None
        try:
            told: Any = await served.sdk().post(
                "/detokenize", body={"model": "demo", "tokens": [2_000_000]}, cast_to=object
            )
            text = told["prompt"]
        except openai.BadRequestError as error:
            assert error.param == "tokens"
        assert text == expected("unknown token", service.kind)
