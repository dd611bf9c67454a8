"""What callers get of llama.cpp in Anthropic's words. The demo model refuses what it does not know, word by word."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anthropic
import openai

from tests.functions.test_llamacpp_answers import engine, served, web_loop

if TYPE_CHECKING:
    from tests.web.conftest import Served

__all__ = ["engine", "served", "web_loop"]

BEGUN: Any = [
    {"role": "user", "content": "What is the capital of France?"},
    {"role": "assistant", "content": "I cannot"},
]


async def test_an_answer_that_was_begun_is_continued_and_counted_as_such(served: Served) -> None:
    async with anthropic.AsyncAnthropic(base_url=served.url, api_key="none", max_retries=0) as client:
        message = await client.messages.create(
            model="demo", max_tokens=4, messages=BEGUN, extra_body={"temperature": 0}
        )
        count = await client.messages.count_tokens(model="demo", messages=BEGUN)
    (block,) = message.content
    assert isinstance(block, anthropic.types.TextBlock)
    assert block.text.startswith(" help with")
    assert message.usage.input_tokens + (message.usage.cache_read_input_tokens or 0) == count.input_tokens


async def test_in_openais_words_it_is_over_and_another_turn_begins(served: Served) -> None:
    async with openai.AsyncOpenAI(base_url=served.url + "/v1", api_key="none", max_retries=0) as client:
        answer = await client.chat.completions.create(model="demo", max_tokens=4, messages=BEGUN, temperature=0)
    async with anthropic.AsyncAnthropic(base_url=served.url, api_key="none", max_retries=0) as messages:
        begun = await messages.messages.count_tokens(model="demo", messages=BEGUN)
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert answer.usage.prompt_tokens >= begun.input_tokens + len(("<|im_end|>", "<|im_start|>", "assistant"))


async def test_a_stop_sequence_that_this_engine_does_not_tell_is_an_end_of_turn(served: Served) -> None:
    async with anthropic.AsyncAnthropic(base_url=served.url, api_key="none", max_retries=0) as client:
        message = await client.messages.create(
            model="demo", max_tokens=20, messages=BEGUN[:1], stop_sequences=[" help"], extra_body={"temperature": 0}
        )
    (block,) = message.content
    assert isinstance(block, anthropic.types.TextBlock)
    assert (block.text, message.stop_reason, message.stop_sequence) == ("I cannot", "end_turn", None)
