"""What is known of one request while it is served.

Every log line that is written meanwhile has its ids (`functions.logs`), wherever it is written: the record is in the
context, which tasks, timers and threads that the request starts take along. At its end the access log tells the rest.
"""

from __future__ import annotations

import contextlib
from contextvars import Context, ContextVar, copy_context
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from web.dialects.pieces import Usage
    from web.errors import WireError
    from web.tracing import Trace

REQUEST_ID_HEADER = "X-Request-ID"


class Story:
    """How an engine answered: moments on the clock's monotonic scale, None for what did not come. `began`: the request
    came; `admitted`: it had a place; `cold`: it was found that there is no engine; `sent`: it was last
    sent to an engine; `opened`: that took it;
    `first`, `last`: a piece of the answer."""

    __slots__ = ("admitted", "began", "cold", "ended", "first", "last", "opened", "pieces", "sent", "usage")

    def __init__(self, began: float) -> None:
        self.began = began
        self.ended = began
        self.admitted: float | None = None
        self.cold: float | None = None
        self.sent: float | None = None
        self.opened: float | None = None
        self.first: float | None = None
        self.last: float | None = None
        self.pieces = 0
        self.usage: Usage | None = None


class Record:
    """A request, an answer over a WebSocket, a line of a batch, or the run of a job."""

    __slots__ = ("cause", "error", "ids", "key", "left", "model", "rid", "story", "stream", "trace")

    def __init__(self, **ids: str) -> None:
        """`ids`: what its log lines are found by: `request_id`, `batch_id`, `job`, …"""
        self.ids = ids
        self.model: str | None = None
        """The id of a configured model."""
        self.rid: str | None = None
        """What the engine calls it, which is told to abort it: made here, and nobody else's."""
        self.key: str | None = None
        """The name of the caller's key."""
        self.stream: bool | None = None
        self.error: str | None = None
        """The code of the error that the caller was told, first or last."""
        self.left = False
        """The caller left before the end."""
        self.story: Story | None = None
        self.trace: Trace | None = None
        self.cause: str | None = None
        """The `traceparent` of the request that has asked for it and is over, where that was traced."""

    def headers(self) -> dict[str, str]:
        """What an engine is told of it."""
        request_id = self.ids.get("request_id")
        told = {} if request_id is None else {REQUEST_ID_HEADER: request_id}
        return told if self.trace is None else {**told, **self.trace.headers()}


current: ContextVar[Record | None] = ContextVar("record", default=None)


def apart() -> Context:
    """A context for what serves more than the request that has begun it. Not an empty one: in a container that is a
    thread of the emulator's, what is around a request says which container it is."""
    context = copy_context()
    context.run(current.set, None)
    return context


def traceparent() -> str | None:
    """Of the request that is served, where it is traced."""
    record = current.get()
    return None if record is None or record.trace is None else record.trace.headers().get("traceparent")


def note_error(wire: WireError) -> None:
    """The caller is told this error."""
    if (record := current.get()) is not None:
        record.error = wire.code or wire.type


@contextlib.contextmanager
def recorded(record: Record) -> Iterator[Record]:
    """What is done inside belongs to `record`."""
    token = current.set(record)
    try:
        yield record
    finally:
        current.reset(token)


def recorded_as(**ids: str) -> contextlib.AbstractContextManager[Record]:
    """The same for what is part of something else: these ids beside that's."""
    around = current.get()
    return recorded(Record(**{**(around.ids if around is not None else {}), **ids}))
