"""How answers over `/chat/ws`, and the WebSocket itself, come to an end: by whom, in which phase, and what is left."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from typing import TYPE_CHECKING, Any

import pytest
from websockets.asyncio.client import connect

from tests.configured_engines import ConfiguredEngines
from tests.web.conftest import running, settings_with, target_of, until
from tests.web.doubles import HandClock
from tests.web.socket_kit import Client, connected, prompt
from web.application import Services, create_application
from web.draining import Draining
from web.routes.socket import MOST_MISTAKES, Answer
from web.session_store import SessionsInMemory
from web.sessions import SessionKey

if TYPE_CHECKING:
    from functions.engines.scripted_server import ScriptedServer
    from tests.web.conftest import Json, Served
    from tests.web.doubles import HandEngine

pytestmark = pytest.mark.slow

PROMISE = 0.1
ATTEMPTS = 20
PHASES: dict[str, Json] = {
    "prefill": {"ttft": 60},
    "decode": {"gap": 60},
    "fast decode": {"gap": 0.005, "tokens": 10**5},
}


async def busy(engine: ScriptedServer, client: Client, phase: str) -> None:
    """Until the engine is in that phase of a prompt that was sent."""
    await until(lambda: engine.state()["active"] == 1)
    if phase != "prefill":
        assert await client.hear() == "t0 "


def lasted(engine: ScriptedServer, since: float) -> float:
    record = engine.state()["requests"][-1]
    return float(max(record["abort"], record["closed"])) - since


async def freed(engine: ScriptedServer) -> None:
    await until(lambda: engine.state()["requests"][-1]["abort"] and engine.state()["requests"][-1]["closed"])
    assert engine.state()["active"] == 0


@pytest.mark.parametrize("phase", PHASES)
async def test_a_stop_frees_the_engine_within_100_ms_and_the_socket_goes_on(
    served: Served, engine: ScriptedServer, phase: str
) -> None:
    times = []
    async with connected(served) as client:
        while not times or (times[-1] >= PROMISE and len(times) < ATTEMPTS):
            await client.say(prompt(PHASES[phase]))
            await busy(engine, client, phase)
            stopped = time.time()
            await client.say({"type": "stop"})
            await freed(engine)
            times.append(lasted(engine, stopped))
            await client.say(prompt({"tokens": 1}, stop="the end of what was stopped"))
            while await client.hear() != "t0 ":
                continue
    assert min(times) < PROMISE, times


@pytest.mark.parametrize("phase", PHASES)
async def test_a_caller_who_vanishes_frees_the_engine_within_100_ms(
    served: Served, engine: ScriptedServer, phase: str
) -> None:
    times: list[float] = []
    while not times or (times[-1] >= PROMISE and len(times) < ATTEMPTS):
        with contextlib.suppress(Exception):
            async with connected(served) as client:
                await client.say(prompt(PHASES[phase]))
                await busy(engine, client, phase)
                left = time.time()
                client.vanish()
        await freed(engine)
        times.append(lasted(engine, left))
    assert min(times) < PROMISE, times


async def test_closing_during_an_answer_frees_the_engine(served: Served, engine: ScriptedServer) -> None:
    async with connected(served) as client:
        await client.say(prompt({"gap": 60}))
        await busy(engine, client, "decode")
    await freed(engine)


async def test_a_stop_while_the_engine_boots_ends_the_asking(
    serve: Any, hand_engine: HandEngine, clock: HandClock
) -> None:
    served = serve(hand_engine.url, clock=clock)
    async with connected(served, "?events=1") as client:
        await client.say(prompt())
        await (await hand_engine.next()).answer(503, b"modal-http: no container")
        assert [(await client.told())["type"] for _ in range(2)] == ["begin", "status"]
        await client.say({"type": "stop"})
        assert await client.told() == {"type": "end", "finish_reason": "stopped"}
        clock.advance(5)
        await client.say({"type": "ping"})
        assert (await client.told())["type"] == "pong"
        assert hand_engine.waiting() == 0


async def test_a_stop_ends_what_waits_in_line_too_and_one_with_nothing_to_stop_nothing(
    served: Served, engine: ScriptedServer
) -> None:
    async with connected(served) as client:
        await client.say({"type": "stop"})
        for _ in range(3):
            await client.say(prompt({"gap": 60}))
        await client.say("{")
        await busy(engine, client, "decode")
        await client.say({"type": "stop"})
        assert (await client.hear()).startswith("__ERROR__:"), "mistakes are told all the same"
        await client.say(prompt({"tokens": 1}))
        assert await client.hear() == "t0 "
        assert engine.state()["started"] == 2


async def test_a_stop_right_behind_its_prompt_stops_it(served: Served, engine: ScriptedServer) -> None:
    async with connected(served, "?events=1") as client:
        for _ in range(20):
            await client.say(prompt({"ttft": 60}))
            await client.say({"type": "stop"})
            told = await client.told()
            if told["type"] == "begin":
                told = await client.told()
            assert told == {"type": "end", "finish_reason": "stopped"}
    await until(lambda: engine.state()["active"] == 0)


async def test_what_was_stopped_is_kept_as_interrupted(served: Served, engine: ScriptedServer, http: Any) -> None:
    async with connected(served, "?session_id=s") as client:
        await client.say(prompt({"gap": 60}))
        await busy(engine, client, "decode")
        await client.say({"type": "stop"})
        await client.say(prompt({"tokens": 1}, events=True))
        assert [(await client.told())["type"] for _ in range(3)] == ["begin", "piece", "end"]
        async with http.get(served.url + "/chat/history/s") as response:
            told = await response.json()
    assert told[2] == {"role": "assistant", "content": "t0 ", "interrupted": True}
    assert told[4] == {"role": "assistant", "content": "t0 "}, "kept before its end was told"


async def test_deleting_the_session_stops_its_answer(served: Served, engine: ScriptedServer, http: Any) -> None:
    async with connected(served, "?session_id=s") as client:
        await client.say(prompt({"gap": 60}))
        await busy(engine, client, "decode")
        await http.delete(served.url + "/chat/history/s")
        assert (await client.hear()).startswith("__ERROR__:The session was deleted")
        await freed(engine)
        await client.say(prompt({"tokens": 1}))
        assert await client.hear() == "t0 "


def stop_reading(client: Client) -> None:
    client.socket.transport.pause_reading()


async def test_a_slow_reader_holds_back_the_engine_and_nobody_else(serve: Any, hand_engine: HandEngine) -> None:
    served = serve(target_of(hand_engine.url, kind="llamacpp"))
    async with connected(served, compression=None) as slow, connected(served) as other:
        await slow.say(prompt())
        talk = await hand_engine.next()
        await talk.begin()
        slow.socket.transport.pause_reading()
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < 1000:
                async with asyncio.timeout(0.5):
                    await talk.token("x" * 100_000)
                sent += 1
        assert sent < 300, "what nobody reads stays with the engine"
        await other.say(prompt())
        quick = await hand_engine.next()
        await quick.begin()
        await quick.token("a", finish="stop")
        await quick.end()
        assert await other.hear() == "a"
        assert not talk.closed.is_set()
        await slow.say({"type": "stop"})
        await until(talk.writer.transport.is_closing)
        slow.vanish()


async def test_a_reader_who_has_stopped_is_cut_off(serve: Any, hand_engine: HandEngine, clock: HandClock) -> None:
    served = serve(target_of(hand_engine.url, kind="llamacpp"), clock=clock, web={"write_timeout": 40})
    async with connected(served, compression=None) as slow:
        await slow.say(prompt())
        talk = await hand_engine.next()
        await talk.begin()
        slow.socket.transport.pause_reading()
        with contextlib.suppress(TimeoutError):
            while True:
                async with asyncio.timeout(0.5):
                    await talk.token("x" * 100_000)
        began = clock.monotonic()

        def cut() -> bool:
            clock.advance(1)
            return talk.writer.transport.is_closing()

        await until(cut)
        assert 39 < clock.monotonic() - began < 1000
        slow.socket.transport.resume_reading()
        assert (await slow.closed())[0] is not None, "and the connection ends"


async def test_a_draining_server_closes_the_idle_and_lets_the_busy_finish(
    serve: Any, hand_engine: HandEngine, clock: HandClock, web_loop: asyncio.AbstractEventLoop
) -> None:
    draining = Draining(clock=clock, grace=25)
    served = serve(target_of(hand_engine.url, kind="llamacpp"), clock=clock, draining=draining)
    async with connected(served) as idle, connected(served) as busy:
        await busy.say(prompt())
        talk = await hand_engine.next()
        finished = asyncio.run_coroutine_threadsafe(draining.finish(), web_loop)
        assert (await idle.closed())[0] == 1012
        await busy.say(prompt())
        await talk.begin()
        await talk.token("a", finish="stop")
        await talk.end()
        assert await busy.hear() == "a"
        assert (await busy.hear()).startswith("__ERROR__:The server is shutting down")
        assert (await busy.closed())[0] == 1012
        await asyncio.wrap_future(finished)


async def test_a_server_that_stops_at_once_says_so_and_keeps_what_was_told(
    hand_engine: HandEngine, clock: HandClock, web_loop: asyncio.AbstractEventLoop
) -> None:
    store, settings = SessionsInMemory(clock=clock), settings_with()
    engines = ConfiguredEngines(settings.models, {"scripted": target_of(hand_engine.url, kind="llamacpp")})
    application = create_application(Services(settings=settings, engines=engines, clock=clock, sessions=store))
    with contextlib.ExitStack() as stack:
        served = stack.enter_context(running(application, web_loop))
        client = Client(await connect(served.url.replace("http", "ws") + "/chat/ws?session_id=s"))
        await client.say(prompt())
        talk = await hand_engine.next()
        await talk.begin()
        await talk.token("so far")
        assert await client.hear() == "so far"
        await asyncio.to_thread(stack.close)
        assert (await client.closed())[0] == 1012
    kept = await store.load(SessionKey("public", "s"))
    assert kept is not None
    assert kept.history()[-1] == {"role": "assistant", "content": "so far", "interrupted": True}


async def test_nothing_is_left_behind_by_many_who_come_and_go(
    served: Served, engine: ScriptedServer, web_loop: asyncio.AbstractEventLoop
) -> None:
    async def tasks() -> int:
        return len(asyncio.all_tasks())

    def count() -> int:
        return asyncio.run_coroutine_threadsafe(tasks(), web_loop).result(5)

    before = await asyncio.to_thread(count)

    async def visit(number: int) -> None:
        with contextlib.suppress(Exception):
            async with connected(served, f"?session_id={number}") as client:
                await client.say(prompt({"gap": 60} if number % 2 else {"tokens": 2}))
                await client.hear()
                if number % 3 == 0:
                    client.vanish()

    await asyncio.gather(*(visit(number) for number in range(30)))
    await until(lambda: engine.state()["active"] == 0)
    async with asyncio.timeout(20):
        while await asyncio.to_thread(count) > before:
            continue


@pytest.mark.slow
async def test_who_floods_without_reading_is_put_out_and_fills_no_memory(engine: ScriptedServer) -> None:
    """By hand, as ASGI has it: what is sent is never taken."""
    settings, clock = settings_with(), HandClock()
    engines = ConfiguredEngines(settings.models, {"scripted": target_of(engine)})
    application = create_application(Services(settings=settings, engines=engines, clock=clock))
    heard = 0
    heard_all = asyncio.Event()

    async def receive() -> Json:
        nonlocal heard
        heard += 1
        await asyncio.sleep(0)
        if heard > 1000:
            heard_all.set()
            await asyncio.Event().wait()
        return {"type": "websocket.receive" if heard > 1 else "websocket.connect", "text": "no prompt"}

    async def send(message: Any) -> None:
        if message["type"] != "websocket.accept":
            await asyncio.Event().wait()

    scope = {"type": "websocket", "path": "/chat/ws", "query_string": b"", "headers": [], "client": ("127.0.0.1", 1)}
    serving = asyncio.create_task(application(scope, receive, send))
    await heard_all.wait()
    gc.collect()
    waiting = sum(isinstance(each, Answer) for each in gc.get_objects())
    assert waiting <= settings.socket.max_queued_prompts + MOST_MISTAKES + 2
    clock.advance(settings.web.write_timeout)
    async with asyncio.timeout(20):
        await serving
