"""No more than its engines take are asked of a model at once; who comes then waits in a fair queue that has an end."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from infra.settings import Model, Models, Scaling, Settings, Web
from tests.web.conftest import MODEL, chat, until

if TYPE_CHECKING:
    from tests.web.conftest import RawResponse, Served
    from tests.web.doubles import Conversation, HandClock, HandEngine


def narrow(*, places: int = 1, queue: int = 200, containers: int = 1, **web: Any) -> Settings:
    model = Model(id="scripted", name=MODEL, scaling=Scaling(max_containers=containers))
    models = Models(available_models=(model,), max_concurrent_requests=places, max_queued_requests=queue)
    return Settings(models=models, web=Web(**web))


async def answer(talk: Conversation, text: str = "x") -> None:
    await talk.begin()
    await talk.token(text, finish="stop")
    await talk.end()


def under_way(clock: HandClock) -> int:
    """How many requests have come and not ended: each has its deadline, and nothing else is that far."""
    return sum(seconds > 3000 for seconds in clock.pending())


async def fill(served: Served, engine: HandEngine, count: int = 1) -> list[tuple[RawResponse, Conversation]]:
    """Take places, with answers that have begun."""
    taken = []
    for _ in range(count):
        response = await served.raw(chat())
        talk = await engine.next()
        await talk.begin()
        await talk.token("begun")
        await response.until(b'"begun"')
        taken.append((response, talk))
    return taken


async def test_only_as_many_as_the_engines_take_are_asked_at_once(serve: Any, hand_engine: HandEngine) -> None:
    served = serve(hand_engine.url, settings=narrow(places=2, containers=2))
    responses = [await served.raw(chat(stream=number % 2 == 0)) for number in range(7)]
    talks = [await hand_engine.next() for _ in range(4)]
    assert hand_engine.waiting() == 0
    for _ in range(3):
        await answer(talks.pop())
        talks.append(await hand_engine.next())
        assert hand_engine.waiting() == 0
    for talk in talks:
        await answer(talk)
    for response in responses:
        assert (await response.head())[0] == 200


async def test_who_runs_the_engines_may_say_how_many_there_are(serve: Any, hand_engine: HandEngine) -> None:
    served = serve(hand_engine.url, settings=narrow(places=2, containers=8), engine_containers=1)
    responses = [await served.raw(chat()) for _ in range(3)]
    for _ in range(2):
        await hand_engine.next()
    assert hand_engine.waiting() == 0
    for response in responses:
        response.leave()


async def test_a_queued_stream_hears_its_place_and_then_its_answer(
    serve: Any, hand_engine: HandEngine, clock: HandClock
) -> None:
    served = serve(hand_engine.url, clock=clock, settings=narrow())
    ((first, talk),) = await fill(served, hand_engine)
    second, third = await served.raw(chat()), None
    await until(lambda: under_way(clock) == 2)
    third = await served.raw(chat())
    await until(lambda: under_way(clock) == 3)
    clock.advance(2.0)
    await second.until(b": queued 1 2.0 s")
    await third.until(b": queued 2 2.0 s")
    await talk.token("", finish="stop")
    await talk.end()
    await first.rest()
    await answer(await hand_engine.next(), "second")
    assert b'"second"' in await second.rest()
    await answer(await hand_engine.next(), "third")
    assert b'"third"' in await third.rest()


async def test_a_full_queue_is_refused_with_a_time_to_come_back(
    serve: Any, hand_engine: HandEngine, clock: HandClock
) -> None:
    served = serve(hand_engine.url, clock=clock, settings=narrow(queue=1))
    ((first, _),) = await fill(served, hand_engine)
    waiting = await served.raw(chat())
    await until(lambda: under_way(clock) == 2)
    for stream in (True, False):
        refused = await served.raw(chat(stream=stream))
        status, headers = await refused.head()
        assert (status, headers["x-should-retry"]) == (503, "true")
        assert 1 <= int(headers["retry-after"]) <= 60
        assert json.loads(await refused.rest())["error"]["code"] == "server_is_overloaded"
    for response in (first, waiting):
        response.leave()


async def test_with_no_queue_a_full_model_refuses_at_once(serve: Any, hand_engine: HandEngine) -> None:
    served = serve(hand_engine.url, settings=narrow(queue=0))
    ((_, talk),) = await fill(served, hand_engine)
    assert (await (await served.raw(chat())).head())[0] == 503
    talk.cut()


@pytest.mark.parametrize("stream", [True, False])
async def test_who_leaves_the_queue_never_reaches_the_engine(
    serve: Any, hand_engine: HandEngine, clock: HandClock, stream: bool
) -> None:
    served = serve(hand_engine.url, clock=clock, settings=narrow())
    ((first, talk),) = await fill(served, hand_engine)
    leaver = await served.raw(chat(stream=stream))
    await until(lambda: under_way(clock) == 2)
    stayer = await served.raw(chat())
    await until(lambda: under_way(clock) == 3)
    leaver.leave()
    await until(lambda: under_way(clock) == 2)
    await talk.token("", finish="stop")
    await talk.end()
    await first.rest()
    await answer(await hand_engine.next(), "stayed")
    assert b'"stayed"' in await stayer.rest()
    assert hand_engine.waiting() == 0


@pytest.mark.parametrize("stream", [True, False])
async def test_a_place_is_free_again_however_its_request_ends(
    serve: Any, hand_engine: HandEngine, stream: bool
) -> None:
    served = serve(hand_engine.url, settings=narrow(queue=0))

    async def refused(talk: Conversation) -> None:
        await talk.answer(400, b'{"error": {"message": "no", "code": 400}}')

    async def died(talk: Conversation) -> None:
        await talk.begin()
        talk.cut()

    async def stayed_and_left(talk: Conversation) -> None:
        response.leave()
        await until(talk.closed.is_set)

    for end in (answer, refused, died, stayed_and_left, answer):
        response = await served.raw(chat(stream=stream))
        await end(await hand_engine.next())
        if end is not stayed_and_left:
            await response.rest()
    assert hand_engine.waiting() == 0


@pytest.mark.parametrize("stream", [True, False])
async def test_who_waits_too_long_for_a_busy_model_is_told_so(
    serve: Any, hand_engine: HandEngine, clock: HandClock, stream: bool
) -> None:
    served = serve(hand_engine.url, clock=clock, settings=narrow(queue_timeout=20))
    ((first, _),) = await fill(served, hand_engine)
    response = await served.raw(chat(stream=stream))
    await until(lambda: under_way(clock) == 2)
    told = asyncio.create_task(response.rest())
    while not told.done():
        await asyncio.sleep(0.001)
        clock.advance(1.0)
        assert clock.monotonic() < 1000 + 100
    head, _, body = told.result().partition(b"\r\n\r\n")
    assert (b" 200 " if stream else b" 503 ") in head
    error = json.loads(body.split(b"data: ")[1].split(b"\n\n")[0] if stream else body)["error"]
    assert error["code"] == "server_is_overloaded"
    first.leave()


async def test_a_boot_is_waited_for_in_the_queue_too(serve: Any, hand_engine: HandEngine, clock: HandClock) -> None:
    served = serve(hand_engine.url, clock=clock, settings=narrow(queue_timeout=20))
    first = await served.raw(chat())
    await (await hand_engine.next()).answer(503, b"modal-http: no container")
    await first.until(b": booting")
    second = await served.raw(chat())
    await until(lambda: under_way(clock) == 2)
    clock.advance(300)
    await answer(await hand_engine.next(), "booted")
    assert b'"booted"' in await first.rest()
    await answer(await hand_engine.next(), "too")
    assert b'"too"' in await second.rest()


async def test_no_answer_takes_longer_than_the_deadline(serve: Any, hand_engine: HandEngine, clock: HandClock) -> None:
    served = serve(hand_engine.url, clock=clock, settings=narrow(places=9, request_deadline=50))
    ((streaming, _),) = await fill(served, hand_engine)
    plain = await served.raw(chat(stream=False))
    await (await hand_engine.next()).begin()
    await until(lambda: clock.pending().count(50.0) == 2)
    clock.advance(50)
    told = (await streaming.rest()).decode()
    error = json.loads(told[told.rindex("data: ") + 6 : told.rindex("\n\n")])["error"]
    assert (error["type"], error["code"]) == ("timeout", "deadline_exceeded")
    status, headers = await plain.head()
    assert (status, headers["x-should-retry"]) == (504, "false")
    assert json.loads(await plain.rest())["error"]["type"] == "timeout"
    await until(lambda: len(hand_engine.aborts) == 2)


async def test_a_reader_who_stops_is_cut_and_the_engine_freed(
    serve: Any, hand_engine: HandEngine, clock: HandClock
) -> None:
    served = serve(hand_engine.url, clock=clock, settings=narrow(queue=0, write_timeout=40))
    response = await served.raw(chat())
    talk = await hand_engine.next()
    await talk.begin()
    speaking = asyncio.create_task(speak(talk))
    async with asyncio.timeout(60):
        while not hand_engine.aborts:
            await asyncio.sleep(0.01)  # for what is on its way to come
            clock.advance(10)
    await asyncio.gather(speaking, return_exceptions=True)
    ((_, other),) = await fill(served, hand_engine)
    other.cut()
    response.leave()


async def test_a_slow_reader_is_not_cut_while_it_reads(serve: Any, hand_engine: HandEngine, clock: HandClock) -> None:
    served = serve(hand_engine.url, clock=clock, settings=narrow(write_timeout=40, heartbeat_interval=15))
    response = await served.raw(chat())
    talk = await hand_engine.next()
    await talk.begin()
    speaking = asyncio.create_task(speak(talk))
    for _ in range(10):
        await response.reader.readexactly(3_000_000)  # more than the kernel keeps before it lets the relay go on
        clock.advance(10)
    assert not hand_engine.aborts
    speaking.cancel()
    response.leave()
    await until(lambda: hand_engine.aborts)


async def speak(talk: Conversation) -> None:
    """Tokens, as fast as they are taken."""
    while True:
        await talk.token("word " * 2000)
