"""`GET /chat/ws`: prompts and answers over one WebSocket, one answer at a time.

A connection has a reader, which never waits for anything but the next frame, and for each prompt a task that answers
it. Prompts that come meanwhile wait in line; a `stop` ends the answer and empties the line.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from web.access import AccessLog
from web.asgi import header
from web.auth import accepted_subprotocol, refuse_handshake
from web.caller import caller_now
from web.dialects.overheard import ListeningRenderer
from web.dialects.service import parse_chat
from web.dialects.service_answer import Elapsed
from web.dialects.service_frames import JsonTalk, PlainTalk
from web.dialects.service_schema import SPELLINGS
from web.dialects.validation import json_object
from web.errors import InvalidRequest, PermissionDenied, ReaderStalled, ServiceError, to_wire
from web.interruption import Interruptible
from web.routes.service import device_for
from web.routes.socket_lines import Line, SocketOutlet
from web.sessions import SessionKey, owner_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.types import Receive, Scope, Send

    from web.conversations import Conversations, Turn
    from web.dialects.request import GenerationRequest
    from web.dialects.service import Asked, Json
    from web.dialects.service_frames import Talk
    from web.draining import Draining
    from web.generation import Generator
    from web.record import Record
    from web.services import Services

log = logging.getLogger(__name__)

LEFT = "websocket.disconnect"
ROUTE = "/chat/ws"
MOST_MISTAKES = 16
"""Frames that are no prompts and wait to be told so; more, and the connection is closed."""
DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


class SocketEndpoint:
    """The ASGI endpoint: a handshake, then a `Connection`."""

    def __init__(
        self, services: Services, generator: Generator, conversations: Conversations, draining: Draining
    ) -> None:
        self.services = services
        self.generator = generator
        self.conversations = conversations
        self.draining = draining
        self.access = AccessLog(services)
        self.warned: set[str] = set()
        """Devices that were wanted and are not there, as the log has told."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not origin_allowed(scope, self.services.settings.security.allowed_origins):
            refusal = PermissionDenied("Pages of this origin may not connect.", code="origin_not_allowed")
            await refuse_handshake(scope, receive, send, refusal)
            return
        await receive()  # websocket.connect
        await send({"type": "websocket.accept", "subprotocol": accepted_subprotocol(scope)})
        connection = Connection(self, scope, Line(send))
        await connection.run(receive)


def origin_allowed(scope: Scope, allowed: Sequence[str]) -> bool:
    """Whether a page of the handshake's origin may connect. CORS does not reach WebSockets, so this is checked here.
    Who names no origin is no page; the service's own pages always may."""
    origin = header(scope, b"origin")
    if origin is None or "*" in allowed or origin in allowed:
        return True
    page = urlsplit(origin)
    host = urlsplit(f"//{header(scope, b'host') or ''}")
    with contextlib.suppress(ValueError):  # a port that is none
        default = DEFAULT_PORTS.get(page.scheme)
        return page.hostname is not None and (page.hostname, page.port or default) == (
            host.hostname, host.port or DEFAULT_PORTS.get(scope.get("scheme", "ws"), default),
        )  # fmt: skip
    return False


class Connection:
    """One WebSocket, from its acceptance to its end."""

    def __init__(self, endpoint: SocketEndpoint, scope: Scope, line: Line) -> None:
        query = parse_qs(scope["query_string"].decode("latin-1"))
        self._endpoint = endpoint
        self._scope = scope
        self._line = line
        self._clock = endpoint.services.clock
        self._settings = endpoint.services.settings
        self._session_id = next(iter(query.get("session_id", query.get("session-id", []))), None)
        self._talk = self._talk_with(events=query.get("events", ["0"])[0].lower() in ("1", "true"))
        self._life = Interruptible()
        self._in_line: deque[Answer] = deque()
        self._current: Answer | None = None
        self._answering: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._quiet_since = self._clock.monotonic()
        self._answers = 0

    async def run(self, receive: Receive) -> None:
        """Until either side closes it, or the caller vanishes."""
        idle = asyncio.create_task(self._watch_idleness(), name="idle")
        forget = self._endpoint.draining.on_begin(self._drain)
        try:
            with contextlib.suppress(Over, ReaderStalled), self._life:
                while (message := await receive())["type"] != LEFT:
                    self._quiet_since = self._clock.monotonic()
                    self._hear(message)
        finally:
            forget()
            idle.cancel()
            self._line.end()
            self._in_line.clear()
            left = [task for task in (self._closing, self._answering) if task is not None]
            for task in left:
                task.cancel()
            if left:
                await asyncio.wait(left)

    def _hear(self, message: Mapping[str, object]) -> None:
        """What a frame asks for. Never waits."""
        try:
            frame = read_frame(message, most_bytes=self._settings.socket.max_frame_bytes)
            match frame.pop("type", "prompt"):
                case "stop":
                    self._stop()
                case "ping":
                    self._line.say_aside(self._talk.pong())
                case "prompt" | None:
                    self._put_in_line(self._asked(frame))
                case other:
                    told = f"There is no frame of type {str(other)[:40]!r}: there are 'prompt', 'stop' and 'ping'."
                    raise InvalidRequest(told, param="type", code="invalid_value")
        except ServiceError as error:
            self._put_in_line(Answer(error=error, talk=self._talk))

    def _asked(self, body: Json) -> Answer:
        if self._session_id is not None and all(body.get(name) is None for name in SPELLINGS["session_id"]):
            body["session_id"] = self._session_id
        asked = parse_chat(body)
        most = self._settings.socket.max_queued_prompts
        if self._current is not None and sum(answer.asked is not None for answer in self._in_line) >= most:
            raise InvalidRequest(f"{most} prompts wait on this connection already.", code="too_many_prompts")
        return Answer(asked=asked, talk=self._talk_with(events=True) if asked.events else self._talk)

    def _put_in_line(self, answer: Answer) -> None:
        if self._closing is not None:
            return
        self._in_line.append(answer)
        if len(self._in_line) > self._settings.socket.max_queued_prompts + MOST_MISTAKES:
            self._close(1008, "too many frames are waiting")
        self._next()

    def _next(self) -> None:
        if self._current is None and self._closing is None:
            if self._in_line:
                self._current = self._in_line.popleft()
                self._answering = asyncio.create_task(self._tell(self._current), name="answer")
                self._answering.add_done_callback(self._told)
            elif self._endpoint.draining.begun:
                self._close(1012, "the server is shutting down")

    def _told(self, task: asyncio.Task[None]) -> None:
        self._current = None
        self._quiet_since = self._clock.monotonic()
        if not task.cancelled():
            if (error := task.exception()) is not None:
                log.error("an answer over a WebSocket failed", exc_info=error)
            self._next()

    def _stop(self) -> None:
        """End the answer; what waits in line is forgotten, mistakes excepted."""
        self._in_line = deque(answer for answer in self._in_line if answer.asked is None)
        if self._current is not None and self._current.asked is not None:
            self._current.stopped = True
            self._current.running.interrupt(Over())

    async def _tell(self, answer: Answer) -> None:
        error: ServiceError | None = answer.error
        if answer.asked is not None and not answer.stopped:
            self._answers += 1
            told = self._endpoint.access.answer(self._scope, self._answers, route=ROUTE)
            try:
                with told as record, answer.running:
                    await self._answer(answer.asked, answer.talk, record)
            except Over:
                pass
            except ReaderStalled as stalled:
                self._life.interrupt(stalled)
                return
            except ServiceError as failure:
                error = failure
        if error is not None:
            await self._line.say(answer.talk.error(to_wire(error)))
        elif answer.stopped:
            await self._line.say(answer.talk.stopped())

    async def _answer(self, asked: Asked, talk: Talk, record: Record) -> None:
        elapsed = Elapsed(self._clock.monotonic)
        caller = await caller_now(self._scope)
        record.key = caller.name
        device, warning = device_for(asked, self._settings, warned=self._endpoint.warned)
        told = {"model": asked.request.model, "session_id": asked.session_id, "device": device, "warning": warning}
        await self._line.say(talk.begun(told))
        outlet = SocketOutlet(self._line, talk)
        generator = self._endpoint.generator
        if asked.session_id is None:
            await generator.tell(asked.request, talk.answer(elapsed), outlet, caller)
            return

        async def respond(request: GenerationRequest, turn: Turn) -> None:
            nonlocal caller
            outlet.turn = turn
            asks, caller = caller, caller.once_counted()
            await generator.tell(request, ListeningRenderer(turn.heard, talk.answer(elapsed)), outlet, asks)

        key = SessionKey(owner_of(caller), asked.session_id)
        await self._endpoint.conversations.speak(key, asked, respond)

    def _drain(self) -> None:
        self._next()

    def _close(self, code: int, reason: str) -> None:
        async def close() -> None:
            with contextlib.suppress(TimeoutError):  # who does not read what comes before it is told no reason
                async with self._clock.timeout(self._settings.web.write_timeout):
                    await self._line.close(code, reason)
            self._life.interrupt(Over())

        if self._closing is None:
            self._closing = asyncio.create_task(close(), name="close")

    async def _watch_idleness(self) -> None:
        most = self._settings.socket.idle_seconds
        while True:
            quiet = 0.0 if self._current is not None else self._clock.monotonic() - self._quiet_since
            if quiet >= most:
                self._close(1000, f"idle for {most:g} s")
                return
            await self._clock.sleep(most - quiet)

    def _talk_with(self, *, events: bool) -> Talk:
        joined = self._endpoint.services.coalesce_seconds > 0
        return JsonTalk(joined=joined) if events else PlainTalk(joined=joined)


class Answer:
    """What is to be told: the answer to a prompt, or a mistake."""

    def __init__(self, *, talk: Talk, asked: Asked | None = None, error: ServiceError | None = None) -> None:
        self.talk = talk
        self.asked = asked
        self.error = error
        self.stopped = False
        self.running = Interruptible()


class Over(ServiceError):
    """It ends here because somebody wanted so."""

    code = "stopped"

    def __init__(self) -> None:
        super().__init__("It was ended.")


def read_frame(message: Mapping[str, object], *, most_bytes: int) -> Json:
    """The JSON object in an ASGI `websocket.receive`. Raises InvalidRequest."""
    text = message.get("text")
    if not isinstance(text, str):
        raise InvalidRequest("Frames are text here, and this one is binary.", code="invalid_json")
    if len(text) > most_bytes or len(text.encode()) > most_bytes:
        raise InvalidRequest(f"The frame is longer than {most_bytes} bytes.", code="request_too_large")
    frame = json_object(text, what="The frame")
    if frame.get("messages") is not None:
        raise InvalidRequest(
            "This is not the place for 'messages': send a 'prompt', or ask POST /v1/chat/completions.",
            param="messages", code="unsupported_parameter",
        )  # fmt: skip
    return frame
