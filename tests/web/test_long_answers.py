"""A plain answer that takes long begins before the platform loses patience, and then is whole or visibly is not."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, cast

import aiohttp
import anthropic
import openai
import pytest

from infra.settings import Web
from tests.web.conftest import MODEL, chat, until
from web.plain_response import PlainResponse

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.web.conftest import RawResponse, Served
    from tests.web.doubles import Conversation, HandClock, HandEngine

AFTER = 100.0
BEAT = 10.0
QUESTION = [{"role": "user", "content": "x"}]
SOON = {"plain_keepalive_after": 0.05, "heartbeat_interval": 0.02}
"""So soon that an engine that waits for the test is slow."""


async def refused_without_container(engine: HandEngine, clock: HandClock) -> None:
    """The platform has no container for a request yet, and the service waits to ask again."""
    await (await engine.next()).answer(503, b"modal-http: no container")
    await until(lambda: min(clock.pending()) <= 1)


async def turn_until_begun(response: RawResponse, clock: HandClock) -> None:
    """Turn the clock, second by second, until the response has its status and headers."""
    head = asyncio.create_task(response.head())
    while not head.done():
        await asyncio.sleep(0.001)
        clock.advance(1)


async def test_spaces_come_from_the_configured_moment_until_the_answer(
    serve: Any, hand_engine: HandEngine, clock: HandClock
) -> None:
    served = serve(hand_engine.url, clock=clock)
    response = await served.raw(chat(stream=False))
    talk = await hand_engine.next()
    await talk.begin()
    await until(lambda: AFTER in clock.pending())
    clock.advance(AFTER - 1)
    assert await response.ready() == b""
    clock.advance(1)
    status, headers = await response.head()
    assert (status, headers["content-type"]) == (200, "application/json")
    assert "content-length" not in headers
    await response.until(b"1\r\n \r\n")
    await until(lambda: BEAT in clock.pending())
    clock.advance(BEAT)
    await response.until(b"1\r\n \r\n1\r\n \r\n")
    await talk.token("late", finish="stop")
    await talk.end()
    body = b"".join((await response.rest()).split(b"\r\n")[1::2])
    assert body.startswith(b"  {")
    assert json.loads(body)["choices"][0]["message"]["content"] == "late"


async def test_a_quick_answer_has_no_space_and_a_length(serve: Any, hand_engine: HandEngine, clock: HandClock) -> None:
    served = serve(hand_engine.url, clock=clock)
    response = await served.raw(chat(stream=False))
    talk = await hand_engine.next()
    clock.advance(AFTER - 1)
    await talk.begin()
    await talk.token("quick", finish="stop")
    await talk.end()
    _, headers = await response.head()
    body = await response.rest()
    assert body.startswith(b"{")
    assert int(headers["content-length"]) == len(body)
    await until(lambda: not clock.pending())


async def test_what_still_boots_is_refused_with_a_status_instead(
    serve: Any, hand_engine: HandEngine, clock: HandClock
) -> None:
    """A 200 would be too early: nobody knows whether there will be an answer."""
    served = serve(hand_engine.url, clock=clock)
    response = await served.raw(chat(stream=False))
    await refused_without_container(hand_engine, clock)
    clock.advance(AFTER + 5)
    await refused_without_container(hand_engine, clock)
    assert await response.ready() == b""
    clock.advance(20)
    await (await hand_engine.next()).answer(503, b"modal-http: no container")
    assert (await response.head())[0] == 503
    assert json.loads(await response.rest())["error"]["code"] == "model_booting"


async def test_one_that_booted_late_begins_as_soon_as_an_engine_has_it(
    serve: Any, hand_engine: HandEngine, clock: HandClock
) -> None:
    served = serve(hand_engine.url, clock=clock)
    response = await served.raw(chat(stream=False))
    await refused_without_container(hand_engine, clock)
    clock.advance(AFTER + 5)
    talk = await hand_engine.next()
    await talk.begin()
    await talk.token("booted")
    began = clock.monotonic()
    await turn_until_begun(response, clock)
    assert clock.monotonic() - began <= BEAT + 5
    await talk.token("", finish="stop")
    await talk.end()
    assert b'"booted"' in await response.rest()


async def test_an_engine_that_has_the_request_and_says_nothing_is_begun_before_the_limit(
    serve: Any, hand_engine: HandEngine, clock: HandClock
) -> None:
    """Found at the last moment, and silent: it may be working."""
    served = serve(hand_engine.url, clock=clock)
    response = await served.raw(chat(stream=False))
    await refused_without_container(hand_engine, clock)
    clock.advance(AFTER + 15)
    talk = await hand_engine.next()
    await turn_until_begun(response, clock)
    assert clock.monotonic() - 1000 < 150
    await talk.begin()
    await talk.token("after all", finish="stop")
    await talk.end()
    assert b'"after all"' in await response.rest()


@pytest.mark.parametrize("end", ["dies", "fails"])
async def test_a_failure_after_the_beginning_cuts_the_connection(serve: Any, hand_engine: HandEngine, end: str) -> None:
    served = serve(hand_engine.url, web=SOON)
    async with aiohttp.ClientSession() as session, session.post(
        served.url + "/v1/chat/completions", json=chat(stream=False)
    ) as response:  # fmt: skip
        talk = await hand_engine.next()
        assert response.status == 200
        await talk.begin()
        if end == "dies":
            talk.cut()
        else:
            await talk.event({"error": {"message": "out of memory", "code": 500}})
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()


async def test_leaving_between_the_spaces_frees_the_engine(serve: Any, hand_engine: HandEngine) -> None:
    served = serve(hand_engine.url, web=SOON)
    response = await served.raw(chat(stream=False))
    talk = await hand_engine.next()
    await talk.begin()
    await response.until(b"1\r\n \r\n1\r\n \r\n")
    response.leave()
    await until(lambda: hand_engine.aborts)


def by_openai(served: Served) -> tuple[Any, Callable[[], Awaitable[str | None]], type[Exception]]:
    client = served.sdk(max_retries=1)

    async def ask() -> str | None:
        answer = await client.chat.completions.create(model=MODEL, messages=QUESTION)
        return answer.choices[0].message.content

    return client, ask, openai.APIConnectionError


def by_responses(served: Served) -> tuple[Any, Callable[[], Awaitable[str | None]], type[Exception]]:
    client = served.sdk(max_retries=1)

    async def ask() -> str | None:
        return (await client.responses.create(model=MODEL, input="x", store=False)).output_text

    return client, ask, openai.APIConnectionError


def by_anthropic(served: Served) -> tuple[Any, Callable[[], Awaitable[str | None]], type[Exception]]:
    client = anthropic.AsyncAnthropic(base_url=served.url, api_key="none", max_retries=1)

    async def ask() -> str | None:
        answer = await client.messages.create(model=MODEL, messages=QUESTION, max_tokens=10)
        return answer.content[0].text

    return client, ask, anthropic.APIConnectionError


async def test_an_answer_at_the_very_moment_of_the_first_space_is_whole(clock: HandClock) -> None:
    """The task that was to send spaces has not run yet."""
    sent: list[Any] = []
    answered = asyncio.Event()

    async def send(message: Any) -> None:
        sent.append(message)

    class UnderWay:
        @property
        def under_way(self) -> bool:
            answered.set()
            return True

    async with PlainResponse(send, clock=clock, web=Web()) as response:
        response.follow(cast("Any", UnderWay()))
        clock.advance(AFTER)
        await answered.wait()
        await response.end(b"{}")
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert sent[-1]["body"] == b"{}"


@pytest.mark.parametrize("sdk", [by_openai, by_responses, by_anthropic])
@pytest.mark.slow
async def test_an_sdk_reads_a_long_answer_and_asks_again_after_a_cut(
    serve: Any, hand_engine: HandEngine, clock: HandClock, sdk: Any
) -> None:
    served = serve(hand_engine.url, clock=clock)

    async def taken() -> Conversation:
        """The engine's next request, whose answer has begun to reach the caller."""
        talk = await hand_engine.next()
        await talk.begin()
        await until(lambda: AFTER in clock.pending())
        clock.advance(AFTER)
        await until(lambda: BEAT in clock.pending())
        return talk

    client, ask, broken = sdk(served)
    async with client:
        asking = asyncio.create_task(ask())
        (await taken()).cut()
        talk = await taken()
        await talk.token("long answer", finish="stop")
        await talk.end()
        assert await asking == "long answer"

        asking = asyncio.create_task(ask())
        for _ in range(2):
            (await taken()).cut()
        with pytest.raises(broken):
            await asking
