"""Answers that take too long for one request: each is kept at a result URL, where its client may come for it.

https://modal.com/docs/guide/webhook-timeouts: the URL blocks until the answer is there, and can be loaded again without
another input. Another method than GET is refused there, in the words that Modal has for it.
"""

from __future__ import annotations

import secrets
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from emulator.ingress.asgi import http_disconnect
from emulator.ingress.call import conclude
from emulator.ingress.receiver import HttpReceiver
from emulator.signals import Signal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modal_proto import api_pb2

    from emulator.clock import Clock
    from emulator.ingress.call import Call
    from emulator.ingress.exchange import Request
    from emulator.ingress.tasks import Tasks

FIRST_BYTE_SECONDS = 150.0
"""After this long without an answer the client is sent to the result URL: https://modal.com/docs/guide/webhook-timeouts"""

RESULT_SECONDS = 600.0
"""How long an answer is kept since someone last asked for it. One that is not there by then is cancelled."""

KEPT_BYTES = 16 << 20
"""Of one answer. What exceeds it waits for a reader, and is gone when it has been read once."""

CALL_ID = "__modal_function_call_id"

UNKNOWN_RESULT = "modal-http: no such result"
BAD_METHOD = "modal-http: bad redirect method"
LATE = "modal-http: the answer takes longer, see Location"


class Result:
    """The answer to come of one call: its `Receiver`, and what serves those who ask for it."""

    def __init__(self, call: Call, *, clock: Clock, tasks: Tasks, results: dict[str, Result]) -> None:
        self.call_id = f"fc-{secrets.token_hex(12)}"
        self.finished = False
        self._call = call
        self._clock = clock
        self._tasks = tasks
        self._results = results
        self._events: deque[api_pb2.Asgi] = deque()
        self._first = 0
        """Position of the oldest event that is kept."""
        self._read = 0
        """Up to where somebody has read."""
        self._size = 0
        self._readers = 0
        self._visits = 0
        self._dropped = False
        self._changed = Signal()
        results[self.call_id] = self
        tasks.spawn(self._watch())
        self._expire_later()
        call.attach(self)

    def redirect(self, request: Request) -> None:
        """Send a client to where the answer will be."""
        location = result_target(request.head.target, self.call_id)
        request.reply.text(303, LATE, [(b"Location", location)])

    # The application's side

    async def events(self, events: Sequence[api_pb2.Asgi]) -> None:
        for event in events:
            self._events.append(event)
            self._size += event.ByteSize()
            kind = event.WhichOneof("type")
            self.finished = self.finished or (kind == "http_response_body" and not event.http_response_body.more_body)
        self._changed.notify()
        while self._size > KEPT_BYTES:
            if self._first < self._read:
                self._size -= self._events.popleft().ByteSize()
                self._first += 1
            elif self._dropped or self._call.done.is_set():
                return
            else:
                await self._changed.wait()

    async def _watch(self) -> None:
        await self._call.answered.wait()
        self._changed.notify()
        if not self._call.done.is_set():
            await self._call.linger(http_disconnect())

    # The clients' side

    async def serve(self, request: Request) -> None:
        """Answer one who asks for it: with the answer, or with another 303."""
        self._readers += 1
        request.on_left(self._changed.notify)
        try:
            async with self._clock.timeout(FIRST_BYTE_SECONDS):
                while not self._events and not self._over and not request.left:
                    await self._changed.wait()
        except TimeoutError:
            request.on_left(None)
            self.redirect(request)
        else:
            await self._play(request)
        finally:
            self._readers -= 1
            self._expire_later()

    async def _play(self, request: Request) -> None:
        receiver, position = HttpReceiver(request), 0
        while not request.left and not request.reply.finished:
            if position < self._first:
                request.reply.text(404, UNKNOWN_RESULT) if not request.reply.started else request.reply.cut()
            elif batch := list(islice(self._events, position - self._first, None)):
                position += len(batch)
                self._read = max(self._read, position)
                self._changed.notify()
                try:
                    await receiver.events(batch)
                except ValueError as error:
                    conclude(request.reply, f"the application sent what is not valid: {error}")
            elif self._over:
                conclude(request.reply, self._call.failure)
            else:
                await self._changed.wait()

    @property
    def _over(self) -> bool:
        return self._call.answered.is_set()

    def _expire_later(self) -> None:
        self._visits += 1
        if not self._readers:
            self._tasks.spawn(self._expire(self._visits))

    async def _expire(self, visits: int) -> None:
        await self._clock.sleep(RESULT_SECONDS)
        if not self._readers and visits == self._visits:
            self._results.pop(self.call_id, None)
            self._dropped = True
            self._changed.notify()
            await self._call.leave(http_disconnect())


def result_id(target: bytes) -> str | None:
    """The call that a result URL asks for, or None for any other URL."""
    _, _, query = target.partition(b"?")
    if CALL_ID.encode() not in query:
        return None
    return dict(parse_qsl(query.decode("latin-1"))).get(CALL_ID)


def result_target(target: bytes, call_id: str) -> bytes:
    """The result URL for a request: the same, with the call's id in the query."""
    path, _, query = target.partition(b"?")
    kept = [part for part in query.split(b"&") if part and not part.startswith(CALL_ID.encode())]
    return path + b"?" + b"&".join([*kept, f"{CALL_ID}={call_id}".encode()])
