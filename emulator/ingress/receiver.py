"""From an application's events to the reply to one request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emulator.ingress.asgi import response_headers
from emulator.ingress.exchange import ClientLeft

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modal_proto import api_pb2

    from emulator.ingress.exchange import Request


class HttpReceiver:
    """Writes an application's events to the reply."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._reply = request.reply
        self._last = False

    @property
    def finished(self) -> bool:
        return self._reply.finished

    async def events(self, events: Sequence[api_pb2.Asgi]) -> None:
        if self._request.left:
            raise ClientLeft
        pieces: list[bytes] = []
        try:
            for event in events:
                if self._reply.finished or self._last:
                    break
                self._event(event, pieces)
        finally:
            if pieces:
                self._reply.write_all(pieces, last=self._last)
            else:
                self._reply.flush()
        await self._reply.drain()

    def _event(self, event: api_pb2.Asgi, pieces: list[bytes]) -> None:
        kind = event.WhichOneof("type")
        if kind == "http_response_body":
            if not self._reply.started:
                raise ValueError("a response body before its start")
            pieces.append(event.http_response_body.body)
            self._last = not event.http_response_body.more_body
        elif kind == "http_response_start":
            if self._reply.started:
                raise ValueError("a second response start")
            headers, length = response_headers(event.http_response_start.headers)
            self._reply.start(event.http_response_start.status, headers, length=length)
        elif kind != "http_response_trailers":
            raise ValueError(f"{kind} in answer to an HTTP request")
