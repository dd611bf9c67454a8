"""JSON lines and file descriptors over a unix stream socket: how the emulator and its container processes talk.

A message is one line of JSON whose `fds` (default 0) says how many of the descriptors that came along belong to it.
"""

from __future__ import annotations

import json
import os
import socket
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_MOST_FDS = 64
_READ = 65536


@dataclass(frozen=True)
class Message:
    """One message: its JSON object, and the descriptors that came with it, now the receiver's to close."""

    body: dict[str, Any]
    fds: tuple[int, ...] = ()


class Decoder:
    """Puts messages together again from what was read."""

    def __init__(self) -> None:
        self._buffer = b""
        self._fds: deque[int] = deque()

    def feed(self, data: bytes, fds: Sequence[int]) -> Iterator[Message]:
        """The messages that are complete now."""
        self._buffer += data
        self._fds.extend(fds)
        while (end := self._buffer.find(b"\n")) >= 0:
            body = json.loads(self._buffer[:end])
            self._buffer = self._buffer[end + 1 :]
            yield Message(body, tuple(self._fds.popleft() for _ in range(body.pop("fds", 0))))

    def close(self) -> None:
        """Close descriptors that belong to no message."""
        while self._fds:
            os.close(self._fds.popleft())


def receive(connection: socket.socket, decoder: Decoder) -> list[Message] | None:
    """Read what is there. None: the other side is gone. Raises `BlockingIOError` when nothing is there."""
    try:
        data, fds, _flags, _address = socket.recv_fds(connection, _READ, _MOST_FDS)
    except ConnectionResetError:
        return None
    if not data:
        return None
    return list(decoder.feed(data, fds))


def send(connection: socket.socket, body: dict[str, Any], fds: Sequence[int] = ()) -> None:
    """Send one message, whole. The descriptors stay the sender's to close. Messages are small: this does not wait."""
    payload = json.dumps({**body, "fds": len(fds)} if fds else body).encode() + b"\n"
    sent = socket.send_fds(connection, [payload], fds) if fds else connection.send(payload)
    if sent < len(payload):
        connection.sendall(payload[sent:])
