"""Requests to an engine, which is on this machine or beside it."""

from __future__ import annotations

import urllib.request
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import http.client

HANDLERS = (
    urllib.request.HTTPHandler, urllib.request.HTTPDefaultErrorHandler, urllib.request.HTTPErrorProcessor,
)  # fmt: skip


def ask_directly(request: urllib.request.Request, *, timeout: float) -> http.client.HTTPResponse:
    """As `urllib.request.urlopen` does it over http, but past the proxy that `HTTP_PROXY` may name for weights: it
    would look for the engine on its own machine, and read the engine's key. Redirects are not followed. Raises OSError
    (urllib's errors are ones) when it is not answered with success, and http.client's errors."""
    opener = urllib.request.OpenerDirector()
    for handler in HANDLERS:
        opener.add_handler(handler())
    answer: http.client.HTTPResponse = opener.open(request, timeout=timeout)
    return answer
