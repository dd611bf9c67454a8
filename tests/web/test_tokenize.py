"""`/tokenize` and `/detokenize` in the shapes of vLLM and SGLang, and the count that other dialects ask for."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.configured_engines import ConfiguredEngines
from tests.web.conftest import MODEL, target_of
from web.dialects.engine_tokens import template_call, text_call, tokens_call
from web.dialects.openai import parse_chat, parse_text
from web.plain_exchange import PlainExchanges
from web.services import Services
from web.tokens import Tokens

if TYPE_CHECKING:
    import aiohttp

    from functions.engines.scripted_server import ScriptedServer
    from tests.web.conftest import Served
    from tests.web.doubles import HandEngine

USER = {"role": "user", "content": "one two three"}


async def post(http: aiohttp.ClientSession, served: Served, path: str, body: Any) -> tuple[int, Any]:
    async with http.post(served.url + path, json=body) as response:
        return response.status, await response.json()


@pytest.mark.parametrize("prefix", ["", "/v1"])
async def test_a_text_becomes_tokens_and_they_become_the_text(
    served: Served, http: aiohttp.ClientSession, prefix: str
) -> None:
    status, told = await post(http, served, prefix + "/tokenize", {"model": MODEL, "prompt": "so it goes"})
    assert status == 200
    assert set(told) == {"count", "max_model_len", "tokens"}
    assert told["count"] == len(told["tokens"]) == 3
    status, back = await post(http, served, prefix + "/detokenize", {"model": MODEL, "tokens": told["tokens"]})
    assert (status, back) == (200, {"prompt": "so it goes", "text": "so it goes"})


async def test_no_tokens_are_no_text(served: Served, http: aiohttp.ClientSession) -> None:
    told = await post(http, served, "/detokenize", {"model": MODEL, "tokens": []})
    assert told == (200, {"prompt": "", "text": ""})


async def test_a_chat_is_counted_as_its_answer_counts_it(
    served: Served, http: aiohttp.ClientSession, engine: ScriptedServer
) -> None:
    parts = [{"type": "text", "text": "four five"}, {"type": "refusal", "refusal": "six"}]
    messages = [USER, {"role": "assistant", "content": parts}, {"role": "developer", "content": "be brief"}]
    _, told = await post(http, served, "/tokenize", {"model": MODEL, "messages": messages})
    _, answer = await post(http, served, "/v1/chat/completions", {"model": MODEL, "messages": messages})
    assert told["count"] == answer["usage"]["prompt_tokens"] == 8
    assert engine.state()["plain"][-1]["messages"][-1]["role"] == "system"


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/tokenize", {}, "prompt"),
        (
            "/tokenize",
            {"messages": [USER], "chat_template_kwargs": {"chat_template": "x"}},
            "chat_template_kwargs.chat_template",
        ),
        ("/tokenize", {"prompt": "a", "messages": [USER]}, "prompt"),
        ("/tokenize", {"prompt": ["a"]}, "prompt"),
        ("/tokenize", {"messages": []}, "messages"),
        ("/tokenize", {"messages": [{"role": "user"}]}, "messages[0].content"),
        ("/tokenize", {"prompt": "a", "add_special_tokens": "yes"}, "add_special_tokens"),
        ("/tokenize", {"prompt": "a", "return_token_strs": True}, "return_token_strs"),
        ("/tokenize", {"prompt": "a", "model": 5}, "model"),
        ("/detokenize", {}, "tokens"),
        ("/detokenize", {"tokens": "abc"}, "tokens"),
        ("/detokenize", {"tokens": [1, "a"]}, "tokens[1]"),
        ("/detokenize", {"tokens": [-1]}, "tokens[0]"),
        ("/detokenize", {"tokens": [2**31]}, "tokens[0]"),
        ("/detokenize", {"tokens": [1.5]}, "tokens[0]"),
        ("/detokenize", {"tokens": [999_999]}, "tokens"),
    ],
)
async def test_what_is_wrong_is_named(
    served: Served, http: aiohttp.ClientSession, path: str, body: Any, param: str
) -> None:
    status, told = await post(http, served, path, {"model": MODEL, **body})
    assert (status, told["error"]["param"]) == (400, param)


async def test_an_unknown_model_is_a_404(served: Served, http: aiohttp.ClientSession) -> None:
    for path, body in (("/tokenize", {"prompt": "a"}), ("/detokenize", {"tokens": [1]})):
        status, told = await post(http, served, path, {"model": "nobody", **body})
        assert (status, told["error"]["code"]) == (404, "model_not_found")


async def test_who_leaves_closes_the_connection_to_the_engine(serve: Any, hand_engine: HandEngine) -> None:
    served = serve(hand_engine.url)
    response = await served.raw({"model": MODEL, "prompt": "a"}, "/tokenize")
    talk = await hand_engine.next()
    response.leave()
    async with asyncio.timeout(20):
        await talk.closed.wait()


@pytest.fixture
async def tokens(engine: ScriptedServer) -> Any:
    from tests.web.conftest import settings_with

    settings = settings_with()
    engines = ConfiguredEngines(settings.models, {"scripted": target_of(engine)})
    exchanges = PlainExchanges(Services(settings=settings, engines=engines))
    yield Tokens(exchanges)
    await exchanges.close()


@pytest.mark.parametrize(("prompt", "count"), [("a b", 2), (["a b", "c"], 3), ([5, 6, 7, 8], 4), ([[5], [6, 7]], 3)])
async def test_the_tokens_of_a_completion_are_counted(tokens: Tokens, prompt: Any, count: int) -> None:
    request = parse_text(json.dumps({"model": MODEL, "prompt": prompt}).encode())
    assert await tokens.count_tokens(request) == count


async def test_the_tokens_of_a_chat_are_counted(tokens: Tokens) -> None:
    assert await tokens.count_tokens(parse_chat(json.dumps({"model": MODEL, "messages": [USER]}).encode())) == 3


def test_llama_cpp_is_asked_in_its_own_words() -> None:
    target = target_of("http://x", kind="llamacpp")
    assert json.loads(text_call(target, "a", special=False).body) == {
        "content": "a", "add_special": False, "parse_special": True,
    }  # fmt: skip
    call = template_call(target, {"messages": [USER], "temperature": 1, "tools": []})
    assert (call.path, json.loads(call.body)) == ("/apply-template", {"messages": [USER], "tools": []})
    assert json.loads(tokens_call(target, [1]).body) == {"tokens": [1]}
