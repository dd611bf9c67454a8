"""What callers get of an engine through the service, by OpenAI's SDK: llama.cpp's tests, before either engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import openai

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
