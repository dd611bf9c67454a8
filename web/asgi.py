"""The little that is done with ASGI by hand: reading a body, answering JSON, and noticing that the caller has left."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

from web.errors import BodyTooLarge

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from starlette.types import Receive, Scope, Send

Header = tuple[bytes, bytes]


class CallerLeft(Exception):
    """The caller closed the connection before the body had come."""


def header(scope: Scope, name: bytes) -> str | None:
    """The value of a request header (`name` in lower case), the first if there are several."""
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), None)


async def read_body(scope: Scope, receive: Receive, *, limit: int) -> bytes:
    """The request's body. Raises BodyTooLarge before reading it where its length is told, else once it is over
    `limit` bytes; CallerLeft when the connection closes."""
    told = header(scope, b"content-length")
    if told is not None and told.isdigit() and int(told) > limit:
        raise BodyTooLarge(limit)
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise CallerLeft
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise BodyTooLarge(limit)
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


async def send_body(
    send: Send,
    body: bytes,
    *,
    status: int = 200,
    content_type: bytes = b"application/json",
    more: Iterable[Header] = (),
) -> None:
    """Answer with a whole body."""
    headers = [(b"content-type", content_type), (b"content-length", str(len(body)).encode()), *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Presence:
    """A context whose body is cancelled, and which then ends quietly with `left` set, once the caller has left.

    It watches `receive()` itself: a plain handler is never cancelled by the server, and under Modal's bridge `send`
    never raises. The request's body must have been read before.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._inside: asyncio.Task[object] | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._cancels_before = 0
        self.left = False

    async def __aenter__(self) -> Self:
        inside = asyncio.current_task()
        if inside is None:
            raise RuntimeError("a caller's presence is watched inside a task")
        self._inside = inside
        self._cancels_before = inside.cancelling()
        self._watcher = asyncio.create_task(self._watch(inside), name="presence")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if self._watcher is not None:
            self._watcher.cancel()
        if not self.left or self._inside is None:
            return False
        others_cancel_too = self._inside.uncancel() > self._cancels_before
        return isinstance(error, asyncio.CancelledError) and not others_cancel_too

    async def _watch(self, inside: asyncio.Task[object]) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            continue
        self.left = True
        inside.cancel()
