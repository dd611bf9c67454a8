"""What callers get of an engine through the service, by OpenAI's SDK: llama.cpp's tests, before either engine."""

from __future__ import annotations

from tests.functions.test_llamacpp_answers import (
    TestJson,
    TestLogprobs,
    TestTokens,
    TestToolsAreCalledWhenTheyMustBe,
    test_a_stop_string_ends_it_and_is_not_told,
)

__all__ = [
    "TestJson",
    "TestLogprobs",
    "TestTokens",
    "TestToolsAreCalledWhenTheyMustBe",
    "test_a_stop_string_ends_it_and_is_not_told",
]
