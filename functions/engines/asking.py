"""Requests to an engine, which is on this machine or beside it."""

from __future__ import annotations

import http.client
import socket
import time
import urllib.request
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer


class _BoundedSocket(socket.socket):
    """All that is sent and received over it together may take until `ends` (of `time.monotonic`): a socket's own
    timeout is for each read, so that who sends a byte now and then never meets it."""

    ends: float

    def recv_into(self, buffer: WriteableBuffer, nbytes: int = 0, flags: int = 0) -> int:
        self._bound()
        return super().recv_into(buffer, nbytes, flags)

    def sendall(self, data: ReadableBuffer, flags: int = 0) -> None:
        self._bound()
        super().sendall(data, flags)

    def _bound(self) -> None:
        left = self.ends - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self.settimeout(left)


class _BoundedConnection(http.client.HTTPConnection):
    """Its timeout is for the whole of the request and its answer."""

    timeout: float

    def connect(self) -> None:
        ends = time.monotonic() + self.timeout
        super().connect()
        plain = self.sock
        self.sock = _BoundedSocket(plain.family, plain.type, plain.proto, fileno=plain.detach())
        self.sock.ends = ends


class _BoundedHandler(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_BoundedConnection, req)


HANDLERS = (_BoundedHandler, urllib.request.HTTPDefaultErrorHandler, urllib.request.HTTPErrorProcessor)


def ask_directly(request: urllib.request.Request, *, timeout: float) -> http.client.HTTPResponse:
    """As `urllib.request.urlopen` does it over http, but past the proxy that `HTTP_PROXY` may name for weights: it
    would look for the engine on its own machine, and read the engine's key. Redirects are not followed. `timeout`, in
    seconds, is for all of it, to the last byte that is read of the answer. Raises OSError (urllib's errors are ones)
    when it is not answered with success, and http.client's errors."""
    opener = urllib.request.OpenerDirector()
    for handler in HANDLERS:
        opener.add_handler(handler())
    answer: http.client.HTTPResponse = opener.open(request, timeout=timeout)
    return answer
