"""One input of a web function, from its first event to its end.

It runs in a task of its own: the client may leave before it, or come back for its answer later (after a 303).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from emulator.ingress.base import WebInputFailed
from emulator.ingress.exchange import ClientLeft

if TYPE_CHECKING:
    from modal_proto import api_pb2

    from emulator.clock import Clock
    from emulator.ingress.base import FunctionBackend, WebInput
    from emulator.ingress.exchange import Reply

log = logging.getLogger(__name__)

DISCONNECT_GRACE = 10.0
"""Seconds that an application has, after it was told that its client has gone, before its input is cancelled."""

LINGER = 1.0
"""Seconds after a complete answer at which an input that still runs is told that there is no one to listen."""


def failed(failure: str | None) -> str:
    """Modal's words for an input that ended without a complete answer."""
    return f"modal-http: internal error: {failure or 'no answer'}"


def conclude(reply: Reply, failure: str | None) -> None:
    """End a reply for which nothing more will come, unless it is complete."""
    if reply.finished:
        return
    if reply.started:
        reply.cut()
    else:
        reply.text(500, failed(failure))


Feed = Callable[["WebInput"], Awaitable[None]]


class Receiver(Protocol):
    """Where the application's events go."""

    @property
    def finished(self) -> bool:
        """Whether the answer is complete."""

    async def events(self, events: Sequence[api_pb2.Asgi]) -> None:
        """Pass on events, in one write. Raises `ClientLeft`, or `ValueError` for what the application may not send."""


class Nobody:
    """The receiver of what is no longer wanted."""

    finished = True

    async def events(self, events: Sequence[api_pb2.Asgi]) -> None: ...


class Call:
    """One input. `run` drives it; the other methods are for whoever serves the client."""

    def __init__(self, *, backend: FunctionBackend, scope: dict[str, Any], feed: Feed, clock: Clock) -> None:
        self.arrived = asyncio.Event()
        """The first event has come, or there will be none."""
        self.answered = asyncio.Event()
        """The answer is complete, or will never be."""
        self.done = asyncio.Event()
        self.failure: str | None = None
        self._backend = backend
        self._scope = scope
        self._feed = feed
        self._clock = clock
        self._input: WebInput | None = None
        self._opened = asyncio.Event()
        self._attached: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._receiver: Receiver = Nobody()
        self._task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Enqueue the input and pass its events on until it has ended."""
        self._task = asyncio.current_task()
        try:
            async with self._backend.open(self._scope) as web_input:
                self._input = web_input
                self._opened.set()
                feeder = asyncio.create_task(self._feed_quietly(web_input))
                try:
                    async for events in web_input.events():
                        await self._deliver(events)
                finally:
                    feeder.cancel()
        except WebInputFailed as failure:
            self.failure = str(failure)
        except ValueError as error:
            self.failure = f"the application sent what is not valid: {error}"
            log.warning("%s", self.failure)
        finally:
            self.done.set()
            self.arrived.set()
            self.answered.set()
            self._opened.set()

    def attach(self, receiver: Receiver) -> None:
        """From now on `receiver` gets the events, beginning with the first."""
        self._receiver = receiver
        if not self._attached.done():
            self._attached.set_result(None)

    async def leave(self, farewell: api_pb2.Asgi | None) -> None:
        """The client has gone: say so at once (unless the feed does), and cancel the input after a grace period."""
        self.attach(Nobody())
        self.arrived.set()
        self.answered.set()
        try:
            async with self._clock.timeout(DISCONNECT_GRACE):
                await self._say(farewell)
                await self.done.wait()
        except TimeoutError:
            await self._cancel()

    async def linger(self, farewell: api_pb2.Asgi) -> None:
        """After the answer: an application that runs on and waits for its client learns that it has gone."""
        try:
            async with self._clock.timeout(LINGER):
                await self.done.wait()
        except TimeoutError:
            await self._say(farewell)

    async def _say(self, farewell: api_pb2.Asgi | None) -> None:
        await self._opened.wait()
        if farewell is not None and self._input is not None and not self.done.is_set():
            try:
                await self._input.send(farewell)
            except WebInputFailed:
                log.debug("the input ended before it could be told that its client has gone")

    async def _cancel(self) -> None:
        try:
            async with self._clock.timeout(DISCONNECT_GRACE):
                if self._input is not None:
                    await self._input.cancel()
                await self.done.wait()
        except TimeoutError:
            if self._task is not None:
                self._task.cancel()

    async def _deliver(self, events: Sequence[api_pb2.Asgi]) -> None:
        self.arrived.set()
        if not self._attached.done():
            await self._attached
        try:
            await self._receiver.events(events)
        except ClientLeft:
            self._receiver = Nobody()
        if self._receiver.finished:
            self.answered.set()

    async def _feed_quietly(self, web_input: WebInput) -> None:
        try:
            await self._feed(web_input)
        except (ClientLeft, WebInputFailed):
            log.debug("the request ended before all of it was handed on")
        except Exception:
            log.exception("handing a request to its function failed")
