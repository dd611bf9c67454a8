"""A key that has spent its month's budget is told so by every route, in its client's words, until the next month."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anthropic
import openai
import pytest

from tests.web.conftest import MODEL, chat
from tests.web.doubles import HandClock
from tests.web.socket_kit import connected, prompt
from tests.web.usage_kit import ALICE, BOB, engines_of, priced

if TYPE_CHECKING:
    import aiohttp

    from functions.engines.scripted_server import ScriptedServer

HELLO: Any = [{"role": "user", "content": "hi"}]


async def test_real_clients_are_refused_and_do_not_try_again_until_the_month_is_over(
    serve: Any, engine: ScriptedServer, http: aiohttp.ClientSession
) -> None:
    clock = HandClock()
    clock.advance(1_764_547_100 - clock.time())  # 2025-11-30 23:58:20
    served = serve(engine, settings=priced(budget=0.0001), engines=engines_of(engine.url), clock=clock)
    alice = served.sdk(api_key=ALICE, max_retries=3)
    for _ in range(2):  # 16 tokens of 0.000006, and the prompt
        assert await alice.chat.completions.create(model=MODEL, messages=HELLO)
    with pytest.raises(openai.RateLimitError) as refused:
        await alice.chat.completions.create(model=MODEL, messages=HELLO)
    assert (refused.value.status_code, refused.value.type, refused.value.code) == (429, *["insufficient_quota"] * 2)
    assert refused.value.response.headers["x-should-retry"] == "false"
    assert "retry-after" not in refused.value.response.headers
    with pytest.raises(openai.RateLimitError):
        await alice.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
    with pytest.raises(openai.RateLimitError):
        await alice.embeddings.create(model="org/embeds", input="a")
    claude = anthropic.AsyncAnthropic(base_url=served.url, api_key=ALICE, max_retries=3)
    with pytest.raises(anthropic.RateLimitError, match="begins anew on 2025-12-01"):
        await claude.messages.create(model=MODEL, max_tokens=5, messages=HELLO)
    await claude.close()
    async with connected(served, additional_headers={"Authorization": f"Bearer {ALICE}"}) as client:
        await client.say(prompt())
        assert "budget" in await client.hear()
    assert engine.state()["started"] == 2
    assert await served.sdk(api_key=BOB).chat.completions.create(model=MODEL, messages=HELLO)
    async with http.post(served.url + "/tokenize", json={"model": MODEL, "prompt": "a"},
                         headers={"Authorization": f"Bearer {ALICE}"}) as free:  # fmt: skip
        assert free.status == 200
    clock.advance(100)
    assert await alice.chat.completions.create(model=MODEL, messages=HELLO)


async def test_an_answer_under_way_is_not_stopped_when_the_budget_is_spent(serve: Any, engine: ScriptedServer) -> None:
    served = serve(engine, settings=priced(budget=0.0001), engines=engines_of(engine.url))
    response = await served.raw(chat({"tokens": 1000}), "/v1/chat/completions", f"Authorization: Bearer {ALICE}")
    assert b"t999" in await response.until(b"[DONE]")
