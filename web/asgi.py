"""The little that is done with ASGI by hand: reading a body, answering JSON, and noticing that the caller has left."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Self

from web.errors import BodyTooLarge, UnsupportedMedia
from web.extensions import connection_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from starlette.types import Message, Receive, Scope, Send

Header = tuple[bytes, bytes]

TAKEN_MEDIA = frozenset({
    "", "application/json", "text/json", "text/plain", "application/octet-stream", "application/x-www-form-urlencoded",
})  # fmt: skip
MOST_DROPPED = 256 * 1024 * 1024
"""Bytes of an unwanted body that are read so that its sender sees the answer."""
CHARSET = re.compile(r"charset\s*=\s*\"?([\w.:-]+)")


class CallerLeft(Exception):
    """The caller closed the connection before the body had come."""


class AnswerBroken(Exception):
    """The connection is cut, since an answer that had begun has failed; the log has told why."""


def header(scope: Scope, name: bytes) -> str | None:
    """The value of a request header (`name` in lower case), the first if there are several."""
    for key, value in scope["headers"]:
        if key == name:
            return str(value, "latin-1")
    return None


def route_path(scope: Scope) -> str:
    """The path without the prefix under which the application is mounted (ASGI's `root_path`)."""
    path: str = scope["path"]
    prefix: str = scope.get("root_path", "")
    return path[len(prefix) :] if prefix and path.startswith(prefix + "/") else path


def refuse_other_media(scope: Scope) -> None:
    """Raise UnsupportedMedia for a body that says it is no JSON, or compressed. What says nothing, or what clients say
    that do not think about it (`curl -d`), is taken at its word only once it is parsed."""
    coding = header(scope, b"content-encoding")
    if coding and coding.strip().lower() != "identity":
        raise UnsupportedMedia("Compressed request bodies are not taken: send it without 'content-encoding'.")
    kind, _, parameters = (header(scope, b"content-type") or "").lower().partition(";")
    kind = kind.strip()
    if not (kind in TAKEN_MEDIA or kind.endswith("+json")):
        raise UnsupportedMedia("The request's body must be JSON: send 'content-type: application/json'.")
    charset = CHARSET.search(parameters)
    if charset and charset[1] not in ("utf-8", "utf8", "us-ascii"):
        raise UnsupportedMedia("The request's body must be in UTF-8.")


async def read_body(scope: Scope, receive: Receive, *, limit: int) -> bytes:
    """The request's body, which is to be JSON. Raises UnsupportedMedia when its headers say that it is none, and
    BodyTooLarge where they say how long it is, before reading it, else once it is over `limit` bytes; CallerLeft when
    the connection closes."""
    refuse_other_media(scope)
    told = header(scope, b"content-length")
    if told is not None and told.isdecimal() and int(told) > limit:
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


class Reception:
    """A request's `receive()`, which remembers whether all of the body has come."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._scope = scope
        self._receive = receive
        self._begun = self._ended = False

    @property
    def complete(self) -> bool:
        """There is no more to come."""
        lengths = header(self._scope, b"content-length"), header(self._scope, b"transfer-encoding")
        return self._ended or lengths in ((None, None), ("0", None))

    async def __call__(self) -> Message:
        self._begun = True
        message = await self._receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self._ended = True
        return message

    async def drop_the_rest(self) -> None:
        """Read and drop what comes of the body. A connection that is closed under a client who still sends is reset,
        and what it was answered may be lost with that."""
        dropped = 0
        if not self._begun and header(self._scope, b"expect") is not None:
            return  # the client waits to hear that its body is wanted: it will not come then
        while not self.complete and dropped < MOST_DROPPED:
            dropped += len((await self()).get("body", b""))


class Presence:
    """A context whose body is cancelled, and which then ends quietly with `left` set, once the caller has left.

    It watches the connection where the server offers that, else `receive()`: a plain handler is never cancelled by the
    server, and under Modal's bridge `send` never raises. The request's body must have been read before.
    """

    def __init__(self, receive: Receive, scope: Scope | None = None) -> None:
        self._receive = receive
        self._connection = None if scope is None else connection_of(scope)
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
        if self._connection is not None:
            self._connection.watch(self._leave)
        else:
            self._watcher = asyncio.create_task(self._watch(), name="presence")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if self._connection is not None:
            self._connection.forget(self._leave)
        if self._watcher is not None:
            self._watcher.cancel()
        inside, self._inside = self._inside, None  # a call that is already on its way finds nobody
        if not self.left or inside is None:
            return False
        others_cancel_too = inside.uncancel() > self._cancels_before
        return isinstance(error, asyncio.CancelledError) and not others_cancel_too

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            continue
        self._leave()

    def _leave(self) -> None:
        if self._inside is not None and not self.left:
            self.left = True
            self._inside.cancel()
