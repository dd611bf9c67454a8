"""Stand-ins whose every move a test makes: a clock that is turned, and an engine that says what it is told to."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import json
import threading
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager


KEEPER = "batches"
"""The task of every application that looks after batches, now and then for ever."""


class HandClock:
    """Time stands still until `advance`. The application may wait in one thread and the test turn in another."""

    def __init__(self) -> None:
        self._now = 1000.0
        self._lock = threading.Lock()
        self._sleepers: list[tuple[float, int, asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self._count = 0
        self._kept: set[asyncio.Future[None]] = set()

    def time(self) -> float:
        return 1_700_000_000 + self._now

    def monotonic(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        task = asyncio.current_task()
        wake = self._due_in(seconds)
        if task is not None and task.get_name() == KEEPER:
            self._kept.add(wake)
        await wake

    def call_later(self, seconds: float, callback: Callable[[], object]) -> asyncio.Future[None]:
        def due(future: asyncio.Future[None]) -> None:
            if not future.cancelled():
                callback()

        timer = self._due_in(seconds)
        timer.add_done_callback(due)
        return timer

    def _due_in(self, seconds: float) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        wake: asyncio.Future[None] = loop.create_future()
        with self._lock:
            self._count += 1
            heapq.heappush(self._sleepers, (self._now + seconds, self._count, loop, wake))
        return wake

    def timeout(self, seconds: float | None) -> AbstractAsyncContextManager[object]:
        return _turned_timeout(self, seconds)

    def pending(self) -> list[float]:
        """In how many seconds whoever sleeps would wake, but for the one that looks after batches all the time."""
        with self._lock:
            waiting = [(due, wake) for due, _, _, wake in self._sleepers if not wake.done()]
            return sorted(due - self._now for due, wake in waiting if wake not in self._kept)

    def advance(self, seconds: float) -> None:
        """Turn the clock, waking whoever is due, in order."""
        with self._lock:
            self._now += seconds
            while self._sleepers and self._sleepers[0][0] <= self._now:
                _, _, loop, wake = heapq.heappop(self._sleepers)
                loop.call_soon_threadsafe(_wake, wake)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


@contextlib.asynccontextmanager
async def _turned_timeout(clock: HandClock, seconds: float | None) -> AsyncIterator[None]:
    if seconds is None:
        yield
        return
    async with asyncio.timeout(None) as real:

        async def expire() -> None:
            await clock.sleep(seconds)
            real.reschedule(0)

        watch = asyncio.create_task(expire())
        try:
            yield
        finally:
            watch.cancel()


class Conversation:
    """One request that came to a `HandEngine`: what it asked, and the means to answer."""

    def __init__(self, head: str, body: bytes, writer: asyncio.StreamWriter) -> None:
        lines = head.strip().split("\r\n")
        self.method, self.path, _ = lines[0].split()
        self.headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines[1:])}
        self.body = body
        self.writer = writer
        self.closed = asyncio.Event()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    async def answer(self, status: int, body: bytes, **headers: str) -> None:
        """Answer at once and close."""
        lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items()]
        head = f"HTTP/1.1 {status} Said\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{''.join(lines)}\r\n"
        self.writer.write(head.encode() + body)
        await self.writer.drain()
        self.writer.close()

    async def begin(self) -> None:
        """Begin a stream."""
        head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
        self.writer.write(f"{head}Connection: close\r\n\r\n".encode())
        await self.writer.drain()

    async def say(self, data: bytes) -> None:
        """Send bytes of the stream, as one chunk."""
        self.writer.write(b"%x\r\n%s\r\n" % (len(data), data))
        await self.writer.drain()

    async def token(self, text: str, *, finish: str | None = None) -> None:
        delta = {"content": text} if text else {}
        await self.event({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})

    async def event(self, event: Any) -> None:
        await self.say(b"data: " + json.dumps(event).encode() + b"\n\n")

    async def end(self, *, done: bool = True) -> None:
        """End the stream properly, as HTTP sees it."""
        if done:
            await self.say(b"data: [DONE]\n\n")
        self.writer.write(b"0\r\n\r\n")
        await self.writer.drain()
        self.writer.close()

    def cut(self) -> None:
        self.writer.transport.abort()


class HandEngine:
    """A server on a free port; `await next()` gives the next request that came. A connection serves
    one request. Aborts are answered and kept in `aborts`."""

    def __init__(self) -> None:
        self._requests: asyncio.Queue[Conversation] = asyncio.Queue()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self.url = ""
        self.aborts: list[Conversation] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()

    async def next(self) -> Conversation:
        async with asyncio.timeout(20):
            return await self._requests.get()

    def waiting(self) -> int:
        """Requests that came and were not taken by `next`."""
        return self._requests.qsize()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = next(
                int(line.split(":")[1]) for line in head.split("\r\n") if line.lower().startswith("content-length:")
            )
            talk = Conversation(head, await reader.readexactly(length), writer)
            if talk.path == "/abort_request":
                self.aborts.append(talk)
                await talk.answer(200, b"")
                return
            self._requests.put_nowait(talk)
            try:
                await reader.read(1)
            finally:  # a connection that is closed over what it has not read is reset
                talk.closed.set()
        writer.close()
