"""The HTTP client to the engines: a bounded pool of connections, and the aborts that outlive their requests.

Of HTTP it speaks what an engine is asked by: a POST of JSON whose answer is read as it comes. That is why it is not
aiohttp's client, which wakes a task for every event and makes many objects for every request.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import deque
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from web.connection import Connection
from web.record import apart

if TYPE_CHECKING:
    from collections.abc import Mapping

    from web.answer import Answer
    from web.clock import Clock

log = logging.getLogger(__name__)

AFFINITY_HEADER = "Modal-Session-ID"
MOST_CONNECTIONS = 2048
"""At work at once; who comes then waits for one. As many may be idle at most."""
MOST_ABORTS = 512
"""Aborts on their way at once; above it a closed connection has to be enough."""
ABORT_SECONDS = 5.0
SETTLE_SECONDS = 1.0
"""For an answer to end after its last event; then its connection is closed instead of used again."""
CONNECT_SECONDS = 10.0
"""For the name, the TCP connection and TLS."""
MOST_PLACES = 1024
IDLE_SECONDS = 50.0
"""An idle connection is not trusted for longer: balancers and proxies commonly forget one after 60 s."""


class NotConnected(OSError):
    """No connection could be made: the request has reached nobody."""


class Origin(NamedTuple):
    """Where connections lead. `name`: as the Host header tells it."""

    tls: bool
    host: str
    port: int
    name: str


class Upstream:
    """Made without a loop, so that a memory snapshot can hold it; connections are made by requests."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._slots = asyncio.Semaphore(MOST_CONNECTIONS)
        self._idle: dict[Origin, deque[tuple[float, Connection]]] = {}
        self._settling: deque[tuple[float, Answer]] = deque()
        self._aborts: set[asyncio.Task[None]] = set()
        self._places: dict[str, tuple[Origin, str]] = {}
        self._tls: ssl.SSLContext | None = None

    async def post(self, url: str, *, body: bytes, headers: Mapping[str, str]) -> Answer:
        """The answer once its headers are there. Cancelled, it cuts the connection. Raises what `ask` raises, and
        ConnectionBroken."""
        answer = await self.ask(url, body=body, headers=headers)
        await answer.begin()
        return answer

    async def ask(self, url: str, *, body: bytes, headers: Mapping[str, str]) -> Answer:
        """The answer, whose beginning is still to be waited for. Raises NotConnected; ValueError for a header that no
        request can hold."""
        self._settle()
        origin, path = self._places.get(url) or self._place(url)
        request = _request(origin, path, body, headers)
        await self._slots.acquire()
        try:
            connection = self._take(origin) or await self._connect(origin)
        except BaseException:
            self._slots.release()
            raise
        return connection.ask(request)

    def let_go(self, answer: Answer) -> None:
        """After the last event: let the answer end too, so that its connection can be used again. Nobody waits."""
        if not answer.over:
            answer.let_go()
            self._settling.append((self._clock.monotonic() + SETTLE_SECONDS, answer))
            self._settle()

    def abort(self, url: str, *, body: bytes, headers: Mapping[str, str]) -> None:
        """Send an abort, whatever becomes of the caller's task. Failures are logged."""
        if len(self._aborts) >= MOST_ABORTS:
            log.warning("an abort was not sent: %d are on their way", MOST_ABORTS)
            return
        task = asyncio.create_task(self._abort(url, body, headers), name="abort")
        self._aborts.add(task)
        task.add_done_callback(self._aborts.discard)

    async def close(self) -> None:
        """Wait for the aborts on their way, and close every connection that no request holds."""
        if self._aborts:
            await asyncio.wait(set(self._aborts))
        for _, answer in self._settling:
            answer.close()
        for connections in self._idle.values():
            for _, connection in connections:
                connection.cut()
        self._settling.clear()
        self._idle.clear()

    async def _abort(self, url: str, body: bytes, headers: Mapping[str, str]) -> None:
        try:
            async with self._clock.timeout(ABORT_SECONDS):
                answer = await self.post(url, body=body, headers=headers)
            self.let_go(answer)
            if answer.status != 200:
                log.info("an abort was answered %d", answer.status)
        except OSError as error:  # a timeout too
            log.info("an abort did not arrive: %r", error)

    def _place(self, url: str) -> tuple[Origin, str]:
        """Of the few addresses that there are, each is taken apart once."""
        if len(self._places) >= MOST_PLACES:
            self._places.clear()
        self._places[url] = place = _split(url)
        return place

    async def _connect(self, origin: Origin) -> Connection:
        loop = asyncio.get_running_loop()
        if origin.tls and self._tls is None:
            self._tls = await asyncio.to_thread(_trusting_the_system)
        # Apart from this request: what the connection tells, it tells for all of those that it will serve.
        connecting = asyncio.create_task(loop.create_connection(
            lambda: Connection(lambda freed: self._freed(origin, freed)), origin.host, origin.port,
            ssl=self._tls if origin.tls else None,
        ), context=apart())  # fmt: skip
        try:
            async with self._clock.timeout(CONNECT_SECONDS):
                _, connection = await connecting
        except BaseException as error:
            connecting.add_done_callback(_unwanted)
            if isinstance(error, OSError):  # a timeout too
                raise NotConnected(str(error)) from error
            raise
        return connection

    def _take(self, origin: Origin) -> Connection | None:
        """The connection that was used last: those that are not needed grow old together."""
        idle = self._idle.get(origin)
        trusted = self._clock.monotonic() - IDLE_SECONDS
        while idle:
            since, connection = idle.pop()
            if since >= trusted and connection.usable:
                return connection
            connection.cut()
        self._idle.pop(origin, None)  # engines come and go, each at an address of its own
        return None

    def _freed(self, origin: Origin, connection: Connection) -> None:
        self._slots.release()
        now = self._clock.monotonic()
        idle = self._idle.setdefault(origin, deque())
        while idle and (idle[0][0] < now - IDLE_SECONDS or not idle[0][1].usable):
            idle.popleft()[1].cut()
        if connection.usable:
            idle.append((now, connection))
        elif not idle:
            del self._idle[origin]

    def _settle(self) -> None:
        """Those that have ended are forgotten; those that had their time are closed. The next request does it, for
        there is no hurry: an engine that has said all of an answer works on it no more."""
        now = self._clock.monotonic()
        while self._settling and (self._settling[0][1].over or self._settling[0][0] <= now):
            self._settling.popleft()[1].close()


def _unwanted(connecting: asyncio.Task[tuple[object, Connection]]) -> None:
    """Whoever wanted it left in the moment in which it was made."""
    if not connecting.cancelled() and connecting.exception() is None:
        connecting.result()[1].cut()


def _split(url: str) -> tuple[Origin, str]:
    parts = urlsplit(url)
    tls = parts.scheme == "https"
    origin = Origin(tls=tls, host=parts.hostname or "", port=parts.port or (443 if tls else 80), name=parts.netloc)
    return origin, parts.path


def _request(origin: Origin, path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    more = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if more.count("\n") != len(headers) or more.count("\r") != len(headers) or "\0" in more:
        raise ValueError("a header holds a line break")
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {origin.name}\r\nAccept: */*\r\nAccept-Encoding: identity\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    )
    return head.encode() + body


def _trusting_the_system() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
