"""How the tests of Web and Servers ask: bytes on a socket where a client would hide something, waiting with an end."""

from __future__ import annotations

import re
import socket
import ssl
import time
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.parity.kit import Target

SECONDS = 30.0


@cache
def certificates() -> ssl.SSLContext:
    """Read once: that takes as long as a request."""
    return ssl.create_default_context()


def get(url: str, **options: Any) -> httpx2.Response:
    return httpx2.get(url, timeout=SECONDS, verify=certificates(), **options)


def post(url: str, **options: Any) -> httpx2.Response:
    return httpx2.post(url, timeout=SECONDS, verify=certificates(), **options)


def until(condition: Callable[[], Any], *, seconds: float = SECONDS) -> Any:
    """What `condition` answers once that is true."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"still {found!r} after {seconds:g} s"
        time.sleep(0.02)
    return found


def until_up(url: str, **options: Any) -> httpx2.Response:
    """The answer of a Server that may not be running yet."""

    def answer() -> httpx2.Response | None:
        response = get(url, **options)
        return None if response.status_code == 503 else response

    found: httpx2.Response = until(answer)
    return found


@contextmanager
def connection(url: str) -> Iterator[socket.socket]:
    """A connection to where that URL points. (Of real Modal's it needs TLS: raw bytes are for emulators.)"""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port or 80), timeout=SECONDS) as found:
        yield found


def read_until(connection: socket.socket, end: bytes) -> bytes:
    """Everything up to `end`, or to the end of the connection."""
    data = b""
    while end not in data and (more := connection.recv(1 << 16)):
        data += more
    return data


def exchange(url: str, data: bytes) -> bytes:
    """Everything that comes back for `data` until the connection is closed."""
    with connection(url) as found:
        found.sendall(data)
        answer = b""
        while more := found.recv(1 << 16):
            answer += more
        return answer


def proxy_token(target: Target) -> tuple[str, str]:
    """A new one: id and secret."""
    done = target.cli("workspace", "proxy-tokens", "create")
    assert done.returncode == 0, done.stderr + done.stdout
    key, secret = re.search(r"wk-[\w-]+", done.stdout), re.search(r"ws-[\w-]+", done.stdout)
    assert key is not None and secret is not None, done.stdout
    return key[0], secret[0]
