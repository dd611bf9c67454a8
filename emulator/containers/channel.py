"""JSON lines and file descriptors over a unix stream socket: how the emulator and its container processes talk.

A message is one line of JSON whose `fds` (default 0) says how many of the descriptors that came along belong to it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_MOST_FDS = 16
"""Descriptors that are taken at once. No message has more than three."""
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
            count = body.pop("fds", 0)
            if count > len(self._fds):
                raise ValueError(f"a message without its descriptors: {body}")
            yield Message(body, tuple(self._fds.popleft() for _ in range(count)))

    def close(self) -> None:
        """Close descriptors that belong to no message."""
        while self._fds:
            os.close(self._fds.popleft())


def receive(connection: socket.socket, decoder: Decoder) -> list[Message] | None:
    """Read what is there. None: the other side is gone. Raises `BlockingIOError` when nothing is there.

    Raises `OSError` when descriptors were lost on the way, and `ValueError` for what is no message.
    """
    try:
        data, fds, flags, _address = socket.recv_fds(connection, _READ, _MOST_FDS)
    except ConnectionResetError:
        return None
    if not data:
        return None
    if flags & socket.MSG_CTRUNC:
        for descriptor in fds:
            os.close(descriptor)
        raise OSError(errno.EMFILE, f"descriptors were lost ({os.strerror(errno.EMFILE)}): raise the limit, ulimit -n")
    return list(decoder.feed(data, fds))


def send_own_life(connection: socket.socket) -> None:
    """Give the other side a descriptor that tells it of this process's end, where the system has such (Linux).

    The end of the connection tells nothing while a child that this process has forked still holds a copy of it.
    """
    if hasattr(os, "pidfd_open"):
        with contextlib.suppress(OSError):  # an old kernel, or a sandbox; or the other side has ended
            life = os.pidfd_open(os.getpid())
            try:
                send(connection, {"emulator": True}, [life])
            finally:
                os.close(life)


def encode(body: dict[str, Any]) -> bytes:
    """A message as it is sent."""
    return json.dumps(body).encode() + b"\n"


def send(connection: socket.socket, body: dict[str, Any], fds: Sequence[int] = ()) -> None:
    """Send one message, whole. The descriptors stay the sender's to close. Messages are small: this does not wait."""
    payload = encode({**body, "fds": len(fds)} if fds else body)
    sent = socket.send_fds(connection, [payload], fds) if fds else connection.send(payload)
    if sent < len(payload):
        connection.sendall(payload[sent:])
