"""HTTP by hand over one connection: what clients hide. Blocking sockets, with a deadline on every read."""

from __future__ import annotations

import json
import socket
import ssl
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

    from tests.conformance.targets import Target

Json = dict[str, Any]
PATIENCE = 20.0
"""Seconds that a read may wait."""


@dataclass(frozen=True)
class Head:
    version: str
    status: int
    headers: dict[str, str]
    """Names in lower case."""


@dataclass
class Event:
    """What stands between two empty lines of a stream. `at`: when its last byte had come (monotonic)."""

    raw: bytes
    at: float

    @property
    def is_comment(self) -> bool:
        return self.raw.startswith(b":")

    @property
    def data(self) -> Any:
        """Of an event of one `data` line: its JSON, or `[DONE]`."""
        text = self.raw.removeprefix(b"data: ").decode()
        return text if text == "[DONE]" else json.loads(text)


@dataclass
class Connection:
    """One TCP (or TLS) connection to the target."""

    target: Target
    socket: socket.socket = field(init=False)
    buffer: bytes = b""

    def __post_init__(self) -> None:
        place = urlsplit(self.target.url)
        self.host = place.netloc
        port = place.port or (443 if place.scheme == "https" else 80)
        self.socket = socket.create_connection((place.hostname or "", port), timeout=PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if place.scheme == "https":
            self.socket = ssl.create_default_context().wrap_socket(self.socket, server_hostname=place.hostname)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    # Asking

    def head_of(
        self, method: str, path: str, headers: Mapping[str, str | None] | None = None, *, version: str = "1.1"
    ) -> bytes:
        """A request's head. `headers` replace those that every request here has; None leaves one out."""
        given: dict[str, str | None] = {"Host": self.host, "Authorization": f"Bearer {self.target.api_key}"}
        given |= headers or {}
        lines = [f"{name}: {value}" for name, value in given.items() if value is not None]
        return "\r\n".join([f"{method} {path} HTTP/{version}", *lines, "", ""]).encode()

    def request(
        self, body: Json | bytes, path: str = "/v1/chat/completions", *, method: str = "POST", version: str = "1.1",
        **headers: str | None,
    ) -> bytes:  # fmt: skip
        """The bytes of a request with a body. Underscores in names of `headers` stand for dashes."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        told: dict[str, str | None] = {"Content-Type": "application/json", "Content-Length": str(len(data))}
        told |= {name.replace("_", "-"): value for name, value in headers.items()}
        return self.head_of(method, path, told, version=version) + data

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def ask(self, body: Json | bytes, path: str = "/v1/chat/completions", **headers: str | None) -> Head:
        self.send(self.request(body, path, **headers))
        return self.head()

    def get(self, path: str, **headers: str | None) -> Head:
        self.send(self.head_of("GET", path, {name.replace("_", "-"): value for name, value in headers.items()}))
        return self.head()

    # Reading

    def head(self) -> Head:
        text = self._until(b"\r\n\r\n").decode()
        first, *lines = text.strip().split("\r\n")
        version, status, *_ = first.split(" ", 2)
        pairs = (line.split(": ", 1) for line in lines)
        return Head(version, int(status), {name.lower(): value for name, value in pairs})

    def body(self, head: Head) -> bytes:
        """All of an answer's body, as long as its head tells it to be."""
        if head.status in (204, 304):
            return b""
        if head.headers.get("transfer-encoding") == "chunked":
            return b"".join(self.chunks())
        if "content-length" in head.headers:
            length = int(head.headers["content-length"])
            while len(self.buffer) < length:
                self._more()
            found, self.buffer = self.buffer[:length], self.buffer[length:]
            return found
        return self.rest()

    def chunks(self) -> Iterator[bytes]:
        """The chunks of a chunked body as they come, to its end."""
        while (size := int(self._until(b"\r\n").strip(), 16)) > 0:
            while len(self.buffer) < size + 2:
                self._more()
            chunk, self.buffer = self.buffer[:size], self.buffer[size + 2 :]
            yield chunk
        assert self._until(b"\r\n") == b"\r\n", "a chunked body ends with an empty line"

    def events(self) -> Iterator[Event]:
        """The events of a chunked stream as they come. What is left over after the last one is an error."""
        waiting = b""
        for chunk in self.chunks():
            waiting += chunk
            now = time.monotonic()
            *whole, waiting = waiting.split(b"\n\n")
            yield from (Event(raw, now) for raw in whole)
        assert waiting == b"", f"the stream ends inside an event: {waiting!r}"

    def rest(self) -> bytes:
        """Everything until the server closes."""
        found, self.buffer = self.buffer, b""
        while data := self.socket.recv(65536):
            found += data
        return found

    def leave(self) -> float:
        """Close as a program that is killed does; when."""
        self.socket.close()
        return time.monotonic()

    def _until(self, mark: bytes) -> bytes:
        while mark not in self.buffer:
            self._more()
        found, _, self.buffer = self.buffer.partition(mark)
        return found + mark

    def _more(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionError(f"the server closed; unread: {self.buffer[:200]!r}")
        self.buffer += data


def chat(target: Target, script: Json | None = None, **more: Any) -> Json:
    """A streamed chat request, scripted for those targets that can be."""
    body: Json = {"model": target.model, "messages": [{"role": "user", "content": "one two three"}], "stream": True}
    if "scripted" in target.features and script is not None:
        body["x_scripted"] = script
    return body | {"max_tokens": 32} | more


def once(target: Target, body: Json | bytes, path: str = "/v1/chat/completions", **headers: str | None) -> Any:
    """One request on a connection of its own: (head, body as JSON)."""
    with Connection(target) as connection:
        head = connection.ask(body, path, **headers)
        return head, json.loads(connection.body(head) or b"null")


def place_is_free(target: Target, *, left: float) -> float:
    """Seconds from `left` until the model that serves one request at once has answered another one."""
    with Connection(target) as connection:
        while True:
            head = connection.ask(chat(target, {"tokens": 1}, model="single", stream=False))
            connection.body(head)
            if head.status == 200:
                return time.monotonic() - left
            assert head.status == 503, head
            assert time.monotonic() - left < 20, "the engine is still at work"
