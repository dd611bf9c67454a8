"""One HTTP/1.1 connection to an engine. What the engine says is handed on as it is read, on no task's time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import httptools

from web.answer import Answer, ConnectionBroken

if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST_HEAD = 64 * 1024
"""Bytes of names and values."""


class Connection(asyncio.Protocol):
    """Serves one request at a time. `freed` is called once for each, when its answer is over: from then on `usable`
    says whether the connection serves another."""

    def __init__(self, freed: Callable[[Connection], None]) -> None:
        self._freed = freed
        self._transport: asyncio.Transport | None = None
        self._answer: Answer | None = None
        self._headers: dict[str, str] = {}
        self._head_size = 0
        self._body: list[bytes] = []
        self.on_body = self._body.append
        """The parser tells each chunk to it; many come in one packet when an engine is quick."""
        self._parser = httptools.HttpResponseParser(self)
        self._begun = self._complete = self._lasts = False

    @property
    def usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def ask(self, request: bytes) -> Answer:
        """Send a request, all of it."""
        if self._transport is None or self._answer is not None:
            raise RuntimeError("a connection serves one request at a time")
        self._answer = Answer(self)
        self._headers, self._head_size = {}, 0
        self._begun = self._complete = False
        self._transport.write(request)
        return self._answer

    def hold(self) -> None:
        """Read nothing, until `go_on`: what the engine says waits in the kernels, and then in the engine."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def go_on(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def cut(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # What the transport tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are not of that class

    def data_received(self, data: bytes) -> None:
        if self._answer is None:
            self.cut()  # nobody asked
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            if not self._complete:
                self._hand_on()
                self._end(ConnectionBroken(f"the engine does not speak HTTP: {error}"))
                return
            self._lasts = False
        if self._body:
            self._hand_on()
        if self._complete:
            self._end(None)

    def connection_lost(self, error: Exception | None) -> None:
        if self._answer is None:
            return
        until_closed = not {"content-length", "transfer-encoding"} & self._headers.keys()
        if self._begun and until_closed and error is None:
            self._end(None)
        else:
            self._end(ConnectionBroken("the engine closed the connection"))

    # What the parser tells.

    def on_message_begin(self) -> None:
        if self._complete:
            raise ValueError("the engine says more than it was asked")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_size += len(name) + len(value)
        if self._head_size > LONGEST_HEAD:
            raise ValueError("the head is too long")
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:  # something said in between: the answer is still to come
            self._headers = {}
        elif self._answer is not None:
            self._begun, self._lasts = True, self._parser.should_keep_alive()
            self._answer.begins(status, self._headers)

    def on_message_complete(self) -> None:
        self._complete = self._begun

    def _hand_on(self) -> None:
        """What one read held goes on as one piece, however the engine cut it."""
        body, answer = self._body, self._answer
        data = body[0] if len(body) == 1 else b"".join(body)
        body.clear()
        if answer is not None and data:
            answer.reads += 1
            answer.hears(data)

    def _end(self, error: ConnectionBroken | None) -> None:
        answer, self._answer = self._answer, None
        if error is not None or not self._lasts or self._sends_still():
            self.cut()
        else:
            self.go_on()
        self._freed(self)
        if answer is not None:
            answer.ends(error)

    def _sends_still(self) -> bool:
        """An engine may answer, refusing, before it has read the whole request."""
        return self._transport is None or self._transport.get_write_buffer_size() > 0
