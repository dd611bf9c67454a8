"""The web application over real sockets: under uvicorn in a thread, with scripted engines in the test's own loop."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import socket
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp
import openai
import pytest
import uvicorn
import uvloop
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from functions.engines.scripted_server import Options, ScriptedServer
from functions.http_protocol import HttpProtocol
from infra.settings import Limits, Model, Models, Settings, Web
from tests.configured_engines import ConfiguredEngines
from tests.web.doubles import HandClock, HandEngine
from web.application import Services, create_application
from web.engines import EngineTarget

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator

Json = dict[str, Any]

MODEL = "org/scripted-model"

UNLIMITED = Limits(default_rate_limit_per_minute=10**6, max_prompt_length=10**8, max_response_tokens=10**6)
"""Of no concern to a test that is about something else."""


async def until(condition: Callable[[], Any], *, seconds: float = 30.0) -> None:
    """Return once `condition()` holds; fail after `seconds`."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 (the condition is another thread's)
            await asyncio.sleep(0.001)


def chat(script: Json | None = None, **more: Any) -> Json:
    """A chat request, streamed unless told otherwise, scripted for the engine."""
    body: Json = {"model": MODEL, "messages": [{"role": "user", "content": "one two three"}], "stream": True}
    return body | {"x_scripted": script or {}} | more


@dataclass
class Served:
    """A running web application."""

    url: str
    port: int

    def sdk(self, **options: Any) -> openai.AsyncOpenAI:
        plain = openai.DefaultAsyncHttpxClient(verify=False)  # certificates take 40 ms to load
        defaults = {"api_key": "none", "max_retries": 0, "http_client": plain}
        return openai.AsyncOpenAI(base_url=self.url + "/v1", **{**defaults, **options})

    async def raw(self, body: Json | bytes, path: str = "/v1/chat/completions", *headers: str) -> RawResponse:
        """POST by hand, for what clients hide. Returns when the request is sent."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        lines = [f"POST {path} HTTP/1.1", "Host: test", "Connection: close", f"Content-Length: {len(data)}", *headers]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + data)
        await writer.drain()
        return RawResponse(reader, writer)


@dataclass
class RawResponse:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    received: bytes = b""
    lines: list[str] = field(default_factory=list)

    async def head(self) -> tuple[int, dict[str, str]]:
        """The status and the headers, names in lower case."""
        text = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        status, *lines = text.strip().split("\r\n")
        pairs = (line.split(": ", 1) for line in lines)
        return int(status.split()[1]), {name.lower(): value for name, value in pairs}

    async def until(self, mark: bytes) -> bytes:
        """What was received, once `mark` is in it."""
        while mark not in self.received:
            data = await self.reader.read(65536)
            assert data, f"the connection ended without {mark!r}: {self.received!r}"
            self.received += data
        return self.received

    async def ready(self) -> bytes:
        """What has come meanwhile, after the application had time to send."""
        data = b""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.02):
                data = await self.reader.read(65536)
        return data

    async def rest(self) -> bytes:
        """What was received, once the connection has ended."""
        self.received += await self.reader.read()
        return self.received

    def leave(self) -> None:
        self.writer.transport.abort()


def payloads(stream: str) -> list[Any]:
    """The events of a stream of which each line but the empty ones is one; comments are left out."""
    assert stream.endswith("\n\n")
    found = []
    for event in stream[:-2].split("\n\n"):
        if event.startswith(": "):
            continue
        assert event.startswith("data: "), event
        assert "\n" not in event, event
        data = event.removeprefix("data: ")
        found.append(data if data == "[DONE]" else json.loads(data))
    return found


@pytest.fixture
async def engine() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer(Options(model_name="served-name")) as server:
        yield server


def target_of(engine: ScriptedServer | str, **more: Any) -> EngineTarget:
    url = engine if isinstance(engine, str) else engine.url
    return EngineTarget(url=url, model="served-name", **{"kind": "scripted", **more})


def settings_with(**web: Any) -> Settings:
    model = Model(id="scripted", name=MODEL, local_engine="scripted", context_length=10**7)
    models = Models(available_models=(model,), max_concurrent_requests=1000)
    return Settings(models=models, web=Web(**web), limits=UNLIMITED)


Serve = Any


SERVERS = {"the service's own server": HttpProtocol, "any server": HttpToolsProtocol}


@pytest.fixture
def http_protocol() -> type[asyncio.Protocol]:
    """Of the server: the service's own, which offers more than ASGI does. Any other has to do as well."""
    return HttpProtocol


@functools.cache
def load() -> None:
    """What a test measures is not what it takes to load a part that it is the first to ask for."""
    settings = settings_with()
    engines = ConfiguredEngines(settings.models, {"scripted": target_of("http://127.0.0.1:9")})
    create_application(Services(settings=settings, engines=engines), whole=True)


@pytest.fixture
def serve(web_loop: asyncio.AbstractEventLoop, http_protocol: type[asyncio.Protocol]) -> Iterator[Serve]:
    """`serve(engine or target, **services)` -> `Served`; stopped at the end. `web={…}`: settings of that section."""
    load()
    with contextlib.ExitStack() as stack:

        def start(
            engine: ScriptedServer | EngineTarget | str,
            *,
            web: Json | None = None,
            settings: Settings | None = None,
            **services: Any,
        ) -> Served:
            target = engine if isinstance(engine, EngineTarget) else target_of(engine)
            settings = settings or settings_with(**(web or {}))
            if "engines" not in services:
                services["engines"] = ConfiguredEngines(settings.models, {"scripted": target})
            application = create_application(Services(settings=settings, **services))
            return stack.enter_context(running(application, web_loop, http_protocol))

        yield start


@pytest.fixture(scope="session")
def web_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """The event loop of the web applications, in a thread of its own: apart from the test's, as on a deployment."""
    loop = uvloop.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="web", daemon=True)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@contextlib.contextmanager
def running(
    application: Any, loop: asyncio.AbstractEventLoop, http_protocol: type[asyncio.Protocol] = HttpProtocol
) -> Iterator[Served]:
    """uvicorn, started and stopped without its own main loop, whose ticks of 0.1 s every test would wait for."""

    def do(work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, loop).result(timeout=60)

    config = uvicorn.Config(
        application, log_level="warning", access_log=False, lifespan="on", proxy_headers=False, http=http_protocol
    )
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    port = listener.getsockname()[1]
    do(_started(server, listener))
    try:
        yield Served(url=f"http://127.0.0.1:{port}", port=port)
    finally:
        server.force_exit = True  # connections are cut, not waited for
        do(server.shutdown(sockets=[listener]))
        do(server.lifespan.shutdown())


async def _started(server: uvicorn.Server, listener: socket.socket) -> None:
    try:
        await server.startup(sockets=[listener])
    except SystemExit:  # it would end the loop, and all tests after this one
        raise AssertionError("the application did not start: the log says why") from None


@pytest.fixture
def served(serve: Serve, engine: ScriptedServer) -> Served:
    """The application with default settings in front of a scripted engine."""
    result: Served = serve(engine)
    return result


@pytest.fixture
async def sdk() -> AsyncIterator[Callable[..., openai.AsyncOpenAI]]:
    """`sdk(served, **options)` -> a client, closed at the end."""
    async with contextlib.AsyncExitStack() as stack:

        def make(served: Served, **options: Any) -> openai.AsyncOpenAI:
            client = served.sdk(**options)
            stack.push_async_callback(client.close)
            return client

        yield make


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def stream_of(http: aiohttp.ClientSession) -> Callable[..., Awaitable[list[Any]]]:
    """`await stream_of(served, body)` -> the events of a stream that was answered 200."""

    async def run(served: Served, body: Json, path: str = "/v1/chat/completions") -> list[Any]:
        async with http.post(served.url + path, json=body) as response:
            assert response.status == 200, await response.text()
            return payloads(await response.text())

    return run


@pytest.fixture
async def hand_engine() -> AsyncIterator[HandEngine]:
    async with HandEngine() as running_engine:
        yield running_engine


@pytest.fixture
def clock() -> HandClock:
    return HandClock()
