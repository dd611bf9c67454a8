"""Told to stop, the server takes nothing new, lets what is under way finish, tells the rest, and ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import threading
from typing import TYPE_CHECKING, Any

import aiohttp
import openai
import pytest
import uvicorn
import uvloop

from functions.engines.scripted_server import Options, ScriptedServer
from tests.configured_engines import ConfiguredEngines
from tests.web.conftest import MODEL, Served, chat, settings_with, target_of, until
from tests.web.doubles import HandClock, HandEngine
from web.application import Services, create_application
from web.draining import Draining
from web.errors import ServerShuttingDown
from web.interruption import Interruptible
from web.server import DrainingServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from web.clock import Clock
    from web.sessions import SessionStore

GRACE = 25.0


class Server:
    """A DrainingServer in a thread of its own."""

    def __init__(self, engine: ScriptedServer | str, clock: Clock, sessions: SessionStore | None = None) -> None:
        self.draining = Draining(clock=clock, grace=GRACE)
        settings = settings_with()
        engines = ConfiguredEngines(settings.models, {"scripted": target_of(engine)})
        services = Services(settings=settings, engines=engines, clock=clock, draining=self.draining, sessions=sessions)
        config = uvicorn.Config(
            create_application(services),
            log_level="warning",
            access_log=False,
            lifespan="on",
            timeout_graceful_shutdown=1,
        )
        self.uvicorn = DrainingServer(config, self.draining, write_timeout=40.0)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        port = self.listener.getsockname()[1]
        self.served = Served(url=f"http://127.0.0.1:{port}", port=port)
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self.uvicorn.serve([self.listener]))

    async def ended(self) -> None:
        await until(lambda: not self.thread.is_alive(), seconds=30)


@pytest.fixture
def start() -> Iterator[Callable[..., Server]]:
    with contextlib.ExitStack() as stack:

        def begin(engine: ScriptedServer | str, clock: Clock, **more: Any) -> Server:
            server = Server(engine, clock, **more)
            server.thread.start()

            def stop() -> None:
                if not server.thread.is_alive():
                    return
                server.uvicorn.handle_exit(signal.SIGTERM, None)
                server.uvicorn.handle_exit(signal.SIGTERM, None)
                server.thread.join(10)

            stack.callback(stop)
            return server

        yield begin


async def test_what_is_under_way_finishes_and_nothing_new_is_taken(
    start: Any, hand_engine: HandEngine, clock: HandClock, http: aiohttp.ClientSession
) -> None:
    server = start(hand_engine.url, clock)
    streaming = await server.served.raw(chat())
    talk = await hand_engine.next()
    await talk.begin()
    await talk.token("before")
    await streaming.until(b'"before"')
    plain = await server.served.raw(chat(stream=False))
    other = await hand_engine.next()
    server.uvicorn.leave()
    await until(lambda: server.draining.begun)

    async with http.get(server.served.url + "/readiness") as response:
        assert response.status == 503
        assert ((await response.json())["status"]) == "not_ready"
    async with http.get(server.served.url + "/health") as response:
        assert response.status == 200
    for path in ("/v1/chat/completions", "/v1/models"):
        async with http.request("POST" if "chat" in path else "GET", server.served.url + path, json=chat()) as response:
            assert (response.status, response.headers["connection"]) == (503, "close")
            assert response.headers["x-should-retry"] == "true"
            assert 1 <= int(response.headers["retry-after"]) <= 60
            assert (await response.json())["error"]["code"] == "server_shutting_down"
    assert hand_engine.waiting() == 0

    await talk.token("after", finish="stop")
    await talk.end()
    assert b'"after"' in await streaming.rest()
    assert streaming.received.rstrip().endswith(b"0")
    await other.begin()
    await other.token("whole", finish="stop")
    await other.end()
    assert (await plain.head())[0] == 200
    await plain.rest()
    await server.ended()
    assert hand_engine.aborts == []


async def test_what_does_not_finish_in_time_is_told_and_its_engine_freed(
    start: Any, hand_engine: HandEngine, clock: HandClock
) -> None:
    server = start(hand_engine.url, clock)
    streaming = await server.served.raw(chat())
    talk = await hand_engine.next()
    await talk.begin()
    await talk.token("begun")
    await streaming.until(b'"begun"')
    booting = await server.served.raw(chat())
    await (await hand_engine.next()).answer(503, b"modal-http: no container")
    await booting.until(b": booting")
    plain = await server.served.raw(chat(stream=False))
    await hand_engine.next()
    server.uvicorn.leave()
    await until(lambda: server.draining.begun and GRACE in clock.pending())
    clock.advance(GRACE)
    for response in (streaming, booting):
        told = (await response.rest()).decode()
        error = json.loads(told[told.rindex("data: ") + 6 : told.rindex("\n\n")])["error"]
        assert error["code"] == "server_shutting_down"
        assert "[DONE]" not in told
    status, headers = await plain.head()
    assert (status, headers["x-should-retry"]) == (503, "true")
    assert json.loads(await plain.rest())["error"]["code"] == "server_shutting_down"
    await server.ended()
    assert len(hand_engine.aborts) >= 2, "what booted may have been asked again meanwhile"


async def test_an_sdk_raises_what_ended_its_stream(start: Any, hand_engine: HandEngine, clock: HandClock) -> None:
    server = start(hand_engine.url, clock)
    create = server.served.sdk().chat.completions.create
    asking = asyncio.create_task(create(model=MODEL, messages=[{"role": "user", "content": "x"}], stream=True))
    talk = await hand_engine.next()
    await talk.begin()
    await talk.token("begun")
    stream = await asking
    server.uvicorn.leave()
    await until(lambda: GRACE in clock.pending())
    clock.advance(GRACE)
    with pytest.raises(openai.APIError, match="shutting down"):
        async for _ in stream:
            continue
    await server.ended()


async def test_with_nothing_under_way_it_ends_at_once(start: Any, hand_engine: HandEngine, clock: HandClock) -> None:
    server = start(hand_engine.url, clock)
    await until(lambda: server.uvicorn.started)
    server.uvicorn.leave()
    await server.ended()


async def test_a_second_signal_does_not_wait(start: Any, hand_engine: HandEngine, clock: HandClock) -> None:
    server = start(hand_engine.url, clock)
    streaming = await server.served.raw(chat())
    await (await hand_engine.next()).begin()
    server.uvicorn.handle_exit(signal.SIGTERM, None)
    await until(lambda: GRACE in clock.pending())
    server.uvicorn.handle_exit(signal.SIGTERM, None)
    await server.ended()
    assert b"server_shutting_down" in await streaming.rest()


async def test_who_reads_nothing_does_not_keep_the_server(start: Any, clock: HandClock) -> None:
    async with ScriptedServer(Options(model_name="served-name")) as engine:
        server = start(engine, clock)
        response = await server.served.raw(chat({"text": "word " * 80_000, "tokens": 0}))
        await until(lambda: engine.state()["active"] == 1)
        await asyncio.sleep(0.5)  # until nothing more fits on the way to it
        server.uvicorn.leave()
        await until(lambda: GRACE in clock.pending())
        clock.advance(GRACE)
        async with asyncio.timeout(30):
            while server.thread.is_alive():
                await asyncio.sleep(0.01)
                with contextlib.suppress(RuntimeError):  # its loop has just been closed
                    clock.advance(0.5)
        response.leave()
        await until(lambda: engine.state()["active"] == 0)


@pytest.mark.slow
@pytest.mark.parametrize("stream", [True, False])
async def test_a_connection_whose_reader_has_stopped_is_cut(start: Any, clock: HandClock, stream: bool) -> None:
    """Its buffers too: uvicorn alone would wait for them to be read, for ever."""
    async with ScriptedServer(Options(model_name="served-name")) as engine:
        server = start(engine, clock)
        script = {"text": "word " * 80_000 if stream else ("x" * 5_000_000 + " ") * 4, "tokens": 0}
        response = await server.served.raw(chat(script, stream=stream))
        await until(lambda: len(server.uvicorn.server_state.connections) == 1)
        await until(lambda: stream or engine.state()["finished"] == 1)
        async with asyncio.timeout(30):
            while server.uvicorn.server_state.connections:
                await asyncio.sleep(0.05)  # for what is on its way to come
                clock.advance(10)
        await until(lambda: engine.state()["active"] == 0)
        response.leave()
        server.uvicorn.leave()
        await server.ended()


async def test_an_interruption_ends_the_body_with_its_error_and_a_cancel_wins_over_it() -> None:
    life = Interruptible()

    async def work() -> None:
        with life:
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    life.interrupt(ServerShuttingDown())
    with pytest.raises(ServerShuttingDown):
        await task
    life = Interruptible()
    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    life.interrupt(ServerShuttingDown())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_whoever_watches_is_told_once_that_it_begins(clock: HandClock) -> None:
    draining = Draining(clock=clock, grace=1)
    told: list[str] = []
    forget = draining.on_begin(lambda: told.append("forgotten"))
    forget()
    draining.on_begin(lambda: told.append("early"))
    draining.begin()
    draining.begin()
    draining.on_begin(lambda: told.append("late"))
    assert told == ["early", "late"]
