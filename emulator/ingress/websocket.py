"""WebSockets to web functions: frames on the client's side, ASGI events on the container's."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
from collections import deque
from typing import TYPE_CHECKING

from websockets.exceptions import ProtocolError
from websockets.frames import DATA_OPCODES, Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from emulator.ingress.asgi import (
    response_headers,
    scope,
    websocket_connect,
    websocket_disconnect,
    websocket_receive,
)
from emulator.ingress.call import Call, failed
from emulator.ingress.exchange import ClientLeft
from emulator.ingress.http1 import Framing, render_response

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from modal_proto import api_pb2
    from websockets.frames import Frame

    from emulator.clock import Clock
    from emulator.ingress.base import FunctionBackend, WebInput
    from emulator.ingress.exchange import Request
    from emulator.ingress.http1 import RequestHead
    from emulator.ingress.tasks import Tasks

MAX_MESSAGE = 2 * 1024 * 1024
"""Bytes of one message from the client; a longer one closes the WebSocket with 1009.

https://modal.com/docs/guide/webhooks: "WebSocket messages can be up to 2 MiB each".
"""

WAITING_BYTES = 1024 * 1024
"""Bytes of messages that wait for the application before reading from the client stops."""

CLOSE_SECONDS = 10.0
"""How long the client has to answer a close frame."""

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""RFC 6455, 1.3."""


async def serve_websocket(request: Request, *, backend: FunctionBackend, clock: Clock, tasks: Tasks) -> None:
    """Answer one WebSocket handshake, and carry messages both ways until either side has closed."""
    problem = handshake_problem(request.head)
    if problem is not None:
        status, text = problem
        request.reply.text(status, f"modal-http: {text}", [(b"Sec-WebSocket-Version", b"13")])
        return
    socket = Socket(request)
    call = Call(backend=backend, scope=scope(request.head), feed=socket.feed, clock=clock)
    tasks.spawn(call.run())
    call.attach(socket)

    def end() -> None:
        tasks.spawn(call.leave(None))

    socket.on_end = end
    request.on_left(socket.lost)
    await call.answered.wait()
    socket.conclude(call.failure)
    try:
        async with clock.outside.timeout(CLOSE_SECONDS):
            await socket.gone.wait()
    except TimeoutError:
        request.wire.abort()
    if not call.done.is_set():
        tasks.spawn(call.linger(websocket_disconnect(1005)))


def handshake_problem(head: RequestHead) -> tuple[int, str] | None:
    """Status and text for a handshake that RFC 6455 (4.2.1) has refused."""
    if head.first(b"sec-websocket-version") != b"13":
        return 426, "only version 13 of the WebSocket protocol is supported"
    try:
        key = base64.b64decode(head.first(b"sec-websocket-key") or b"", validate=True)
    except binascii.Error:
        key = b""
    return None if len(key) == 16 else (400, "invalid Sec-WebSocket-Key")


def accept_key(key: bytes) -> bytes:
    """The answer to a client's `Sec-WebSocket-Key`."""
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())


class Socket:
    """One WebSocket: the `Tunnel` of the client's connection and the `Receiver` of the application's events."""

    def __init__(self, request: Request) -> None:
        self.gone = asyncio.Event()
        """Nothing more can be sent to the client, or needs to be."""
        self.on_end: Callable[[], None] | None = None
        """Called once, when the client closes or vanishes before the application has closed."""
        self._request = request
        self._protocol = ServerProtocol(state=OPEN, max_size=MAX_MESSAGE)
        self._accepted = False
        self._closed = False
        self._fragments: list[bytes] = []
        self._text = False
        self._waiting: deque[api_pb2.Asgi] = deque()
        self._waiting_bytes = 0
        self._ended = False
        self._wake = asyncio.Event()

    # The application's side

    @property
    def finished(self) -> bool:
        return self._closed or self._ended

    async def events(self, events: Sequence[api_pb2.Asgi]) -> None:
        try:
            for event in events:
                self._event(event)
        finally:
            self._flush()
        await self._request.wire.drain()

    def _event(self, event: api_pb2.Asgi) -> None:
        kind = event.WhichOneof("type")
        if self._closed or self._ended:
            raise ClientLeft
        if kind == "websocket_accept" and not self._accepted:
            self._accept(event.websocket_accept)
        elif kind == "websocket_send" and self._accepted:
            message = event.websocket_send
            if message.HasField("bytes"):
                self._protocol.send_binary(message.bytes)
            else:
                self._protocol.send_text(message.text.encode())
        elif kind == "websocket_close":
            close = event.websocket_close
            self.close(close.code if close.HasField("code") else 1000, close.reason)
        else:
            raise ValueError(f"{kind} in answer to a WebSocket, accepted: {self._accepted}")

    def close(self, code: int, reason: str = "") -> None:
        """Close with `code`; a handshake that was not accepted is answered 403."""
        if self._closed or self._ended:
            return
        self._closed = True
        if not self._accepted:
            self._request.reply.text(403, "modal-http: the application refused the WebSocket")
            self.gone.set()
            return
        try:
            self._protocol.send_close(code, reason)
        except ProtocolError as error:
            self._protocol.send_close(1011)
            self._flush()
            raise ValueError(f"close code {code}: {error}") from error
        self._flush()

    def conclude(self, failure: str | None) -> None:
        """The application sends nothing more."""
        if self._closed or self._ended:
            return
        if self._accepted:
            self.close(1011 if failure is not None else 1000)
        else:
            self._closed = True
            self._request.reply.text(500, failed(failure))
            self.gone.set()

    async def feed(self, web_input: WebInput) -> None:
        """Hand the client's messages to the input, up to its disconnect."""
        await web_input.send(websocket_connect())
        while True:
            while self._waiting:
                message = self._waiting.popleft()
                await web_input.send(message)
                self._account(-message.ByteSize())
                if message.HasField("websocket_disconnect"):
                    return
            self._wake.clear()
            await self._wake.wait()

    def _accept(self, accept: api_pb2.Asgi.WebsocketAccept) -> None:
        headers, _ = response_headers(accept.headers)
        headers = [pair for pair in headers if not pair[0].lower().startswith(b"sec-websocket-")]
        if accept.HasField("subprotocol") and accept.subprotocol:
            headers += response_headers([b"Sec-WebSocket-Protocol", accept.subprotocol.encode()])[0]
        key = self._request.head.first(b"sec-websocket-key") or b""
        headers += [(b"Upgrade", b"websocket"), (b"Sec-WebSocket-Accept", accept_key(key))]
        head = render_response(status=101, headers=headers, framing=Framing.NONE, length=None, connection=b"Upgrade")
        self._accepted = True
        self._request.reply.take_over(self, head)

    # The client's side

    def data(self, data: bytes) -> None:
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            self._frame(event)  # type: ignore[arg-type]  # with an open state it yields frames alone
        self._flush()
        if self._protocol.state is not OPEN:
            self._end()

    def lost(self) -> None:
        self._end()
        self.gone.set()

    def pause_writing(self) -> None:
        """`drain` waits."""

    def resume_writing(self) -> None:
        """`drain` goes on."""

    def _frame(self, frame: Frame) -> None:
        if frame.opcode not in DATA_OPCODES:
            return
        if frame.opcode is not Opcode.CONT:
            self._text = frame.opcode is Opcode.TEXT
        self._fragments.append(bytes(frame.data))
        if not frame.fin:
            return
        message = b"".join(self._fragments)
        self._fragments.clear()
        try:
            self._push(websocket_receive(message.decode() if self._text else message))
        except UnicodeDecodeError:
            self._protocol.fail(1007, "invalid UTF-8")

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._request.wire.write(data)
            else:
                self._request.wire.close()

    def _end(self) -> None:
        """The client has closed, has broken the protocol or is gone: the application's `receive` says so, once."""
        if self._ended:
            return
        self._ended = True
        close = self._protocol.close_rcvd or self._protocol.close_sent
        self._push(websocket_disconnect(close.code if close is not None else 1006))
        if not self._closed and self.on_end is not None:
            self.on_end()

    def _push(self, message: api_pb2.Asgi) -> None:
        self._waiting.append(message)
        self._account(message.ByteSize())
        self._wake.set()

    def _account(self, size: int) -> None:
        before, self._waiting_bytes = self._waiting_bytes, self._waiting_bytes + size
        if before <= WAITING_BYTES < self._waiting_bytes:
            self._request.wire.hold("messages")
        elif self._waiting_bytes <= WAITING_BYTES < before:
            self._request.wire.release("messages")
