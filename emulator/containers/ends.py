"""The emulator's ends of what a container's init was given: its streams, and what is still to be said to it."""

from __future__ import annotations

import asyncio
import codecs
import os
import socket
from collections import deque
from typing import TYPE_CHECKING, Any

from emulator.containers.channel import encode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_READ = 65536
_READS_AT_ONCE = 4


class Ends:
    """The three descriptors that a container's init gets, and the emulator's ends of them."""

    def __init__(self) -> None:
        self.control, self.init_control = socket.socketpair()
        self.control.setblocking(False)
        self.stdout, self.init_stdout = os.pipe()
        self.stderr, self.init_stderr = os.pipe()

    def given(self) -> tuple[int, int, int]:
        """What init gets: control, stdout, stderr."""
        return self.init_control.fileno(), self.init_stdout, self.init_stderr

    def hand_over(self) -> None:
        """Close init's ends here: it has its own copies now."""
        self.init_control.close()
        os.close(self.init_stdout)
        os.close(self.init_stderr)

    def close(self) -> None:
        """Close the emulator's ends, of a container that never came to be."""
        self.control.close()
        os.close(self.stdout)
        os.close(self.stderr)


class Output:
    """One stream of a container, decoded as it comes."""

    def __init__(self, descriptor: int, write: Callable[[str], None]) -> None:
        self._descriptor = descriptor
        self._write = write
        self._decode = codecs.getincrementaldecoder("utf-8")(errors="replace")
        os.set_blocking(descriptor, False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(descriptor, self._read)

    def _read(self) -> bool:
        try:
            data = os.read(self._descriptor, _READ)
        except BlockingIOError:
            return False
        if text := self._decode.decode(data, final=not data):
            self._write(text)
        if not data:
            self._loop.remove_reader(self._descriptor)
        return bool(data)

    def read(self) -> None:
        """Hand on what is in the pipe now; no more of it than a few reads' worth, however fast it is filled."""
        for _ in range(_READS_AT_ONCE):
            if not self._read():
                return

    def close(self) -> None:
        """Hand on what is still in the pipe, without waiting for an end that an escaped process may hold back."""
        while self._read():
            pass
        if text := self._decode.decode(b"", final=True):
            self._write(text)
        self._write("")
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)


class Outbox:
    """Messages on their way to a container's init: what it takes now is sent, and the rest as it takes it."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._loop = asyncio.get_running_loop()
        self._unsent: deque[tuple[bytes, tuple[int, ...]]] = deque()

    def put(self, body: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
        """Send a message. The descriptors are closed here once they have been sent, or never will be."""
        if self._control.fileno() < 0:
            _close_all(descriptors)
            return
        data = encode({**body, "fds": len(descriptors)} if descriptors else body)
        self._unsent.append((data, tuple(descriptors)))
        self._send()

    def _send(self) -> None:
        try:
            while self._unsent:
                data, descriptors = self._unsent[0]
                sent = socket.send_fds(self._control, [data], descriptors) if descriptors else self._control.send(data)
                _close_all(descriptors)
                self._unsent[0] = (data[sent:], ())
                if sent == len(data):
                    self._unsent.popleft()
        except BlockingIOError:
            self._loop.add_writer(self._control, self._send)
            return
        except OSError:  # init is gone, as will be read
            self._drop()
        self._loop.remove_writer(self._control)

    def close(self) -> None:
        """Nobody listens any more. Before the socket is closed."""
        self._drop()
        self._loop.remove_writer(self._control)

    def _drop(self) -> None:
        while self._unsent:
            _close_all(self._unsent.popleft()[1])


def _close_all(descriptors: Sequence[int]) -> None:
    for descriptor in dict.fromkeys(descriptors):
        os.close(descriptor)
