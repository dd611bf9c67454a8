"""Answers that break off on purpose: the connection is cut in the middle, as by a network that fails.

Counts what the client is sent: bytes of a body, server-sent events in it, or messages of a WebSocket.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from emulator.ingress.exchange import Reply
from emulator.ingress.http1 import Framing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from emulator.ingress.exchange import Request, Tunnel, Wire

_CONTROL = 8
"""Opcodes of a WebSocket from here on are control frames, which may come between those of a message."""
_BLANK_LINES = (b"\n\n", b"\r\n\r\n")


@dataclass(frozen=True)
class Cut:
    """Where an answer is to be cut. `strike` is asked when it has come to that: False lets the answer go on."""

    unit: Literal["bytes", "events", "messages"]
    after: int
    strike: Callable[[], bool]


def break_off(request: Request, cut: Cut) -> None:
    """Have the answer to a request, which has not begun, cut there."""
    if cut.unit == "messages":
        request.reply = _CutTunnelReply(request, cut)
        request.wire = request.reply.tunnel_wire
    else:
        counter = ByteCounter(cut.after) if cut.unit == "bytes" else EventCounter(cut.after)
        request.reply = _CutReply(request, counter, cut)


@dataclass
class ByteCounter:
    """How much of a body may pass."""

    left: int

    def passes(self, data: bytes) -> int | None:
        """How many bytes of `data` are before the cut, which is at their end; `None`: all, and no cut yet."""
        if len(data) < self.left:
            self.left -= len(data)
            return None
        return self.left


@dataclass
class EventCounter:
    """The same up to the end of an event of a server-sent stream."""

    left: int
    _tail: bytes = b""

    def passes(self, data: bytes) -> int | None:
        if not self.left:
            return 0
        for end in range(1, len(data) + 1):
            self._tail = (self._tail + data[end - 1 : end])[-4:]
            if self._tail.endswith(_BLANK_LINES):
                self._tail = b""
                self.left -= 1
                if not self.left:
                    return end
        return None


@dataclass
class MessageCounter:
    """The same up to the end of a message of a WebSocket, as a server's unmasked frames carry it (RFC 6455, 5.2)."""

    left: int
    _head: bytearray = field(default_factory=bytearray)
    _payload: int = 0
    _ends_message: bool = False

    def passes(self, data: bytes) -> int | None:
        if not self.left:
            return 0
        at = 0
        while at < len(data):
            if self._payload:
                taken = min(self._payload, len(data) - at)
                self._payload -= taken
                at += taken
                ended = not self._payload
            else:
                self._head.append(data[at])
                at += 1
                ended = self._head_ends() and not self._payload
            if ended and self._ends_message:
                self.left -= 1
                if not self.left:
                    return at
        return None

    def _head_ends(self) -> bool:
        """Whether the frame's head is complete; then its payload's length is known."""
        if len(self._head) < 2:
            return False
        short = self._head[1] & 0x7F
        size = {126: 4, 127: 10}.get(short, 2)
        if len(self._head) < size:
            return False
        self._payload = short if size == 2 else int.from_bytes(self._head[2:size], "big")
        self._ends_message = bool(self._head[0] & 0x80) and (self._head[0] & 0x0F) < _CONTROL
        self._head.clear()
        return True


class _CutReply(Reply):
    """A reply whose body is cut."""

    def __init__(self, request: Request, counter: ByteCounter | EventCounter, cut: Cut) -> None:
        super().__init__(request.wire, request.head, request.body)
        self._counter: ByteCounter | EventCounter | None = counter
        self._cut = cut
        self._request = request
        self._dropped = False

    def write_all(self, pieces: Sequence[bytes], *, last: bool = False) -> None:
        if self._dropped:
            return
        kept: list[bytes] = []
        for piece in pieces:
            passed = self._counter.passes(piece) if self._counter is not None else None
            if passed is not None:
                if self._cut.strike():
                    super().write_all([*kept, piece[:passed]])
                    self._drop()
                    return
                self._counter = None
            kept.append(piece)
        super().write_all(kept, last=last)

    def _drop(self) -> None:
        """Not as an answer that ends: who serves it learns that its client has left."""
        self._dropped = True
        self.keep_alive = False
        self._request.leave()
        self._request.on_left(None)
        if self._framing is Framing.CLOSE:
            self._wire.abort()
        else:
            self._wire.close()


class _CutTunnelReply(Reply):
    """A reply that becomes a WebSocket, which is cut."""

    def __init__(self, request: Request, cut: Cut) -> None:
        super().__init__(request.wire, request.head, request.body)
        self.tunnel_wire = _CutWire(request.wire, cut)

    def take_over(self, tunnel: Tunnel, data: bytes) -> Wire:
        head, blank, rest = data.partition(b"\r\n\r\n")
        super().take_over(tunnel, head + blank)
        self.tunnel_wire.open()
        if rest:
            self.tunnel_wire.write(rest)
        return self.tunnel_wire


class _CutWire:
    """A `Wire` that is cut after some messages, once it is a tunnel."""

    def __init__(self, wire: Wire, cut: Cut) -> None:
        self._wire = wire
        self._cut = cut
        self._counter: MessageCounter | None = None

    def open(self) -> None:
        self._counter = MessageCounter(self._cut.after)

    def write(self, data: bytes) -> None:
        passed = self._counter.passes(data) if self._counter is not None else None
        if passed is None or not self._cut.strike():
            if passed is not None:
                self._counter = None
            self._wire.write(data)
        else:
            self._wire.write(data[:passed])
            self._wire.abort()

    @property
    def takes_requests(self) -> bool:
        return self._wire.takes_requests

    async def drain(self) -> None:
        await self._wire.drain()

    def hold(self, reason: str) -> None:
        self._wire.hold(reason)

    def release(self, reason: str) -> None:
        self._wire.release(reason)

    def release_all(self) -> None:
        self._wire.release_all()

    def close(self) -> None:
        self._wire.close()

    def abort(self) -> None:
        self._wire.abort()

    def take_over(self, tunnel: Tunnel) -> None:
        self._wire.take_over(tunnel)
