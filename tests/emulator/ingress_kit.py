"""Stands in for containers in the ingress's tests: ASGI apps behind real `Asgi` messages, servers on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

from modal_proto import api_pb2

from emulator.clock import RealClock
from emulator.ingress.base import WebInputFailed
from emulator.ingress.ingress import Ingress
from emulator.signals import Signal

App = Callable[[dict[str, Any], Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]
Entry = tuple[float, int, float, Callable[[], Any]]
Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class TurnedClock(RealClock):
    """A clock that moves only when a test turns it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._waiting: list[Entry] = []
        self._ids = itertools.count()

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    @property
    def outside(self) -> TurnedClock:  # type: ignore[override]
        return self

    def pending(self, seconds: float) -> bool:
        """Whether something has begun, since the last turn, to wait for exactly `seconds`."""
        return any(begun == self.now and due == begun + seconds for due, _, begun, _ in self._waiting)

    def turn(self, seconds: float) -> None:
        self.now += seconds
        while self._waiting and self._waiting[0][0] <= self.now:
            heapq.heappop(self._waiting)[3]()

    async def sleep(self, seconds: float) -> None:
        future = asyncio.get_running_loop().create_future()
        entry = self._at(seconds, lambda: future.done() or future.set_result(None))
        try:
            await future
        finally:
            self._drop(entry)

    @asynccontextmanager
    async def timeout(self, seconds: float | None) -> AsyncIterator[None]:  # type: ignore[override]
        if seconds is None:
            yield
            return
        async with asyncio.timeout(None) as scope:
            entry = self._at(seconds, lambda: scope.reschedule(asyncio.get_running_loop().time()))
            try:
                yield
            finally:
                self._drop(entry)

    def _at(self, seconds: float, act: Callable[[], Any]) -> Entry:
        entry = (self.now + seconds, next(self._ids), self.now, act)
        heapq.heappush(self._waiting, entry)
        return entry

    def _drop(self, entry: Entry) -> None:
        if entry in self._waiting:
            self._waiting.remove(entry)
            heapq.heapify(self._waiting)


class FakeInput:
    """An input that an ASGI app serves in this process, through `Asgi` messages both ways."""

    def __init__(self, app: App, scope: dict[str, Any]) -> None:
        self.app = app
        self.scope = scope
        self.received: list[api_pb2.Asgi] = []
        self.cancelled = False
        self.to_app: asyncio.Queue[api_pb2.Asgi] = asyncio.Queue(1)
        self.from_app: asyncio.Queue[api_pb2.Asgi | None] = asyncio.Queue(1)
        self.task: asyncio.Task[None] | None = None
        self.error: BaseException | None = None

    async def send(self, message: api_pb2.Asgi) -> None:
        message = api_pb2.Asgi.FromString(message.SerializeToString())
        self.received.append(message)
        await self.to_app.put(message)

    async def events(self) -> AsyncIterator[list[api_pb2.Asgi]]:
        while (event := await self.from_app.get()) is not None:
            yield [event]
        if self.error is not None:
            raise WebInputFailed(f"status Failure: {self.error!r}") from self.error

    async def cancel(self) -> None:
        self.cancelled = True
        if self.task is not None:
            self.task.cancel()

    async def run(self) -> None:
        async def receive() -> Any:
            return decode(await self.to_app.get())

        async def send(message: Any) -> None:
            await self.from_app.put(encode(message))

        try:
            await self.app(self.scope, receive, send)
        except (Exception, asyncio.CancelledError) as error:
            self.error = error
        await self.from_app.put(None)

    def kinds(self) -> list[str]:
        return [str(message.WhichOneof("type")) for message in self.received]


class FakeFunction:
    """A web function whose one container is an ASGI app in this process."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.inputs: list[FakeInput] = []
        self.left: list[FakeInput] = []

    @asynccontextmanager
    async def open(self, scope: dict[str, Any]) -> AsyncIterator[FakeInput]:
        assert "state" not in scope
        web_input = FakeInput(self.app, scope)
        self.inputs.append(web_input)
        web_input.task = asyncio.create_task(web_input.run())
        try:
            yield web_input
        finally:
            self.left.append(web_input)
            web_input.task.cancel()


def decode(message: api_pb2.Asgi) -> dict[str, Any]:
    kind = message.WhichOneof("type")
    value = getattr(message, str(kind))
    if kind == "http_request":
        return {"type": "http.request", "body": value.body, "more_body": value.more_body}
    if kind == "websocket_receive":
        text = value.text if value.HasField("text") else None
        return {"type": "websocket.receive", "text": text, "bytes": value.bytes if text is None else None}
    if kind == "websocket_disconnect":
        return {"type": "websocket.disconnect", "code": value.code}
    return {"type": str(kind).replace("_", ".", 1)}


def encode(message: dict[str, Any]) -> api_pb2.Asgi:
    kind = message["type"].replace(".", "_")
    fields = {key: value for key, value in message.items() if key != "type" and value is not None}
    if "headers" in fields:
        fields["headers"] = [part for pair in fields["headers"] for part in pair]
    message_type = {
        "http_response_start": api_pb2.Asgi.HttpResponseStart,
        "http_response_body": api_pb2.Asgi.HttpResponseBody,
        "websocket_accept": api_pb2.Asgi.WebsocketAccept,
        "websocket_send": api_pb2.Asgi.WebsocketSend,
        "websocket_close": api_pb2.Asgi.WebsocketClose,
    }[kind]
    return api_pb2.Asgi(**{kind: message_type(**fields)})


class FakeTarget:
    """A container of a Server: `answer` serves its connections on a real socket."""

    def __init__(self, task_id: str, answer: Answer) -> None:
        self.task_id = task_id
        self.active = 0
        self.answer = answer
        self.connections = 0
        self.closed = 0
        self.dials = 0
        self.peak = 0
        self._server: asyncio.Server | None = None
        self._port = 0

    async def start(self) -> FakeTarget:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def dial(self) -> socket.socket:
        self.dials += 1
        sock = socket.socket()
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self._port))
        except OSError:
            sock.close()
            raise
        return sock

    @asynccontextmanager
    async def track(self) -> AsyncIterator[None]:
        self.active += 1
        self.peak = max(self.peak, self.active)
        try:
            yield
        finally:
            self.active -= 1

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await self.answer(reader, writer)
        self.closed += 1
        writer.close()

    def stop(self) -> None:
        assert self._server is not None
        self._server.close()


class FakeServer:
    """A Server with the given containers."""

    def __init__(self, *targets: FakeTarget, max_concurrency: int | None = None) -> None:
        self.containers = list(targets)
        self.max_concurrency = max_concurrency
        self.demanded = 0
        self.sessioned = False
        self.waiting = 0
        self.had: list[tuple[str, str, int]] = []
        self._changed = Signal()

    def targets(self) -> list[FakeTarget]:
        return self.containers

    def serves(self, task_id: str) -> bool:
        return any(container.task_id == task_id for container in self.containers)

    @contextlib.contextmanager
    def queued(self) -> Iterator[None]:
        self.waiting += 1
        try:
            yield
        finally:
            self.waiting -= 1

    async def changed(self) -> None:
        await self._changed.wait()

    def change(self, *containers: FakeTarget) -> None:
        self.containers = list(containers)
        self._changed.notify()

    def demand(self) -> None:
        self.demanded += 1

    def handled(self, task_id: str, *, route: str, at: float, seconds: float, status: int) -> None:
        self.had.append((task_id, route, status))


async def read_head(reader: asyncio.StreamReader) -> bytes:
    """One request's head, as a server reads it."""
    return await reader.readuntil(b"\r\n\r\n")


class Allowed:
    """Knows one proxy token, and one of the client's own."""

    def proxy_token(self, token_id: str, secret: str) -> bool:
        return (token_id, secret) == ("wk-1", "ws-1")

    def own_token(self, token: str) -> bool:
        return token == "own"


@asynccontextmanager
async def running(clock: RealClock | None = None, **options: Any) -> AsyncIterator[Ingress]:
    """A started ingress that knows one proxy token: `wk-1`, `ws-1`."""
    ingress = Ingress(clock=clock or RealClock(), authorize=Allowed(), **options)
    await ingress.start()
    try:
        yield ingress
    finally:
        await ingress.close()


async def until(condition: Callable[[], Any], *, seconds: float = 30.0) -> None:
    """Wait for a condition that other tasks bring about."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def best_of(attempt: Callable[[], Awaitable[float]], *, below: float) -> None:
    """Assert that `attempt` can take less than `below` seconds: on a busy machine not every try does."""
    took = [await attempt()]
    while took[-1] >= below and len(took) < 50:
        took.append(await attempt())
    assert min(took) < below, took


async def raw(url: str, data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection on which `data` has been sent as it is."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    writer.write(data)
    return reader, writer


async def exchange(url: str, data: bytes) -> bytes:
    """Everything that comes back for `data` until the connection is closed."""
    reader, writer = await raw(url, data)
    try:
        async with asyncio.timeout(20):
            return await reader.read()
    finally:
        writer.close()


# What most tests serve, and how they add it

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the body it got."""
    body = b""
    while True:
        message = await receive()
        body += message["body"]
        if not message["more_body"]:
            break
    headers = [(b"content-length", str(len(body)).encode()), (b"x-app", b"echo")]
    await send({"type": "http.response.start", "status": 201, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def hold(scope: Any, receive: Any, send: Any) -> None:
    """Begins an answer and never ends it; returns once its client has left."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"first", "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass


async def add_function(ingress: Any, app: Any, **options: Any) -> tuple[str, FakeFunction]:
    function = FakeFunction(app)
    options = {"label": "app-fn", "requires_proxy_auth": False, **options}
    return await ingress.add_function("fn", backend=function, **options), function


def answering(*pieces: bytes, close: bool = False) -> Any:
    """A server that answers each request with the same bytes, and remembers the heads that it got."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            heads.append(await read_head(reader))
            for piece in pieces:
                writer.write(piece)
            if close:
                return

    heads: list[bytes] = []
    answer.heads = heads  # type: ignore[attr-defined]
    return answer


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def add_server(ingress: Any, server: FakeServer, **options: Any) -> str:
    return await ingress.add_server("s", backend=server, **{"label": "app-s", "requires_proxy_auth": False, **options})


async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Takes a request and says nothing, until the connection ends."""
    await reader.read()
