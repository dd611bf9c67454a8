"""Pure ASGI middleware: what is true of every HTTP request. Each costs one function call for each message sent."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from typing import TYPE_CHECKING

from web.asgi import AnswerBroken, CallerLeft, Reception, header, send_body
from web.asgi import route_path as route_path
from web.caller import request_id_of
from web.dialects.errors import error_body, speaks_anthropic
from web.errors import MethodNotAllowed, ServiceError, UpgradeRequired, to_wire
from web.extensions import REFUSAL
from web.metrics import LEFT, METHODS, OTHER
from web.record import Record, current, note_error, recorded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from web.access import AccessLog
    from web.clock import Clock

log = logging.getLogger(__name__)

VARY = (b"vary", b"origin")
CLOSE = (b"connection", b"close")
LINGER_SECONDS = 10.0
"""For a client who is refused to send the rest of its body, before its connection is closed."""

SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
EXPOSED_HEADERS = (
    "x-request-id", "request-id", "openai-processing-ms", "retry-after", "retry-after-ms", "x-should-retry",
    "x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests",
    "x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens", "x-device", "warning",
)  # fmt: skip


def cross_origin(app: ASGIApp, *, origins: Sequence[str]) -> ASGIApp:
    """CORS, to be outermost: a preflight is answered before anything looks at a key, and errors carry the headers.
    Whatever header a caller asks for is allowed (`X-Stainless-*`, `OpenAI-*`, `Idempotency-Key`, …). Credentials are
    not: keys travel in headers, and there are no cookies. Where only some origins are allowed, every answer says that
    it depends on the origin, also to who named none, so that no cache hands it to another."""
    varies = "*" not in origins
    cors: ASGIApp | None = None

    async def for_browsers(scope: Scope, receive: Receive, send: Send) -> None:
        # Who names no origin is no browser's page, and need not pay for its headers.
        browser = scope["type"] == "http" and header(scope, b"origin") is not None
        if varies and scope["type"] == "http":
            send = _varying(send)
        if not browser:
            await app(scope, receive, send)
            return
        nonlocal cors
        cors = cors or _cors(app, origins)
        await cors(scope, receive, send)

    return for_browsers


def _cors(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    from starlette.middleware.cors import CORSMiddleware  # not for every container's first request

    return CORSMiddleware(
        app, allow_origins=list(origins), allow_methods=["*"], allow_headers=["*"], expose_headers=EXPOSED_HEADERS,
        max_age=86400,
    )  # fmt: skip


def _varying(send: Send) -> Send:
    async def varying(message: Message) -> None:
        if message["type"] == "http.response.start":
            told = [(name, value) for name, value in message["headers"] if (name, value.lower()) != VARY]
            message = {**message, "headers": [*told, VARY]}
        await send(message)

    return varying


class RequestIdentity:
    """`x-request-id` (the caller's own if it is sane; Anthropic's clients look for it as `request-id`) and
    `openai-processing-ms` on every answer; and every answer is counted."""

    def __init__(
        self, app: ASGIApp, *, clock: Clock, answered: Callable[[str | None, str, int], None] | None = None,
        access: AccessLog | None = None,
    ) -> None:  # fmt: skip
        """`answered`: is told the template of the route (None: there is none), the method, and the status."""
        self._app = app
        self._clock = clock
        self._answered = answered
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        given = header(scope, b"x-request-id")
        request_id = given if given and SANE_REQUEST_ID.fullmatch(given) else f"req_{os.urandom(16).hex()}"
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        record = Record(request_id=request_id)
        # And left so: the server has a task for each request, and what it logs at the end of this one is of this one.
        current.set(record)
        if scope["type"] == "websocket":
            await self._app(scope, receive, send)
            return
        began = self._clock.monotonic() if self._access is None else self._access.begin(record, scope)
        status = LEFT

        async def identified(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                spent = round((self._clock.monotonic() - began) * 1000)
                mine = [(b"x-request-id", request_id.encode()), (b"openai-processing-ms", str(spent).encode())]
                if speaks_anthropic(route_path(scope)):
                    mine.append((b"request-id", request_id.encode()))
                if (standing := state.get("standing")) is not None:
                    mine += standing()
                message = {**message, "headers": [*message.get("headers", ()), *mine]}
            await send(message)

        try:
            await self._app(scope, receive, identified)
        finally:
            route, method = route_of(scope), scope["method"]
            if status == LEFT and (refusal := state.get(REFUSAL)) is not None:
                wire = to_wire(refusal[0])
                status, record.error, record.ids["request_id"] = wire.status, wire.code, refusal[1]
            if self._answered is not None:
                self._answered(route, method, status)
            if self._access is not None:
                caller = state.get("caller")
                record.key = None if caller is None else caller.name
                record.left = record.left or status == LEFT
                known = method if method in METHODS else OTHER
                self._access.end(record, method=known, route=route, status=status, began=began)

    def refused(self, error: ServiceError, *, request_id: str, method: str | None) -> None:
        """A `web.extensions.Refused`: it is counted and told like what the application refuses."""
        status = to_wire(error).status
        if self._answered is not None:
            self._answered(None, method or OTHER, status)
        if self._access is not None:
            known = method if method in METHODS else OTHER
            with recorded(Record(request_id=request_id)) as record:
                note_error(to_wire(error))
                self._access.end(record, method=known, route=None, status=status)


def route_of(scope: Scope) -> str | None:
    """The template of the route that a request has taken; None: there is none, as far as is known."""
    route: str | None = scope["state"].get("route") or getattr(scope.get("route"), "path_format", None)
    return route


class DirectRoutes:
    """Endpoints that are reached past everything that FastAPI wraps around a route: the ones that carry tokens."""

    def __init__(
        self, app: ASGIApp, posts: Mapping[str, ASGIApp], *, gets: Mapping[str, ASGIApp] | None = None,
        sockets: Mapping[str, ASGIApp] | None = None,
    ) -> None:  # fmt: skip
        """`posts`: exact path -> what answers a POST to it; `gets`: a GET, and `app` every other method; `sockets`:
        what takes a WebSocket there."""
        self._app = app
        self._posts = posts
        self._gets = gets or {}
        self._sockets = sockets or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._sockets.get(route_path(scope), self._app)(scope, receive, send)
            return
        path = route_path(scope) if scope["type"] == "http" else ""
        endpoint = self._posts.get(path)
        if endpoint is None and path in self._gets and scope["method"] == "GET":
            scope.setdefault("state", {})["route"] = path
            await self._gets[path](scope, receive, send)
            return
        if endpoint is None and path in self._sockets:
            raise UpgradeRequired(path)
        if endpoint is None:
            await self._app(scope, receive, send)
            return
        scope.setdefault("state", {})["route"] = path
        if scope["method"] == "OPTIONS":
            await send({"type": "http.response.start", "status": 204, "headers": [(b"allow", b"POST, OPTIONS")]})
            await send({"type": "http.response.body", "body": b""})
            return
        if scope["method"] != "POST":
            raise MethodNotAllowed(scope["method"], scope["path"], "POST, OPTIONS")
        await endpoint(scope, receive, send)


class Errors:
    """Every error that reaches it is told in the caller's dialect; what nobody expected is logged and told as a 500."""

    def __init__(self, app: ASGIApp, *, clock: Clock) -> None:
        self._app = app
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = Reception(scope, receive)
        begun = ended = lingers = False

        async def watched(message: Message) -> None:
            nonlocal begun, ended, lingers
            begun = True
            if message["type"] == "http.response.start":
                lingers = message["status"] >= 400 and not body.complete
                if lingers and not any(name == b"connection" for name, _ in message["headers"]):
                    message = {**message, "headers": [*message["headers"], CLOSE]}
            else:
                ended = not message.get("more_body", False)
                if ended and lingers:
                    await self._linger(message, body, send)
                    return
            await send(message)

        try:
            await self._app(scope, body, watched)
        except CallerLeft:
            return
        except Exception as error:
            if not isinstance(error, ServiceError):
                log.exception("a request failed: %s %s", scope["method"], route_of(scope))
            note_error(to_wire(error))
            if ended:
                return  # the caller has all of an answer: Starlette tells an error, and raises it nevertheless
            if begun:
                if not isinstance(error, ServiceError):
                    raise AnswerBroken from None  # its own words are not for the server's log
                raise
            await send_error(scope, watched, error)
            error.__traceback__ = None  # it holds the request, and is held by it

    async def _linger(self, last: Message, body: Reception, send: Send) -> None:
        """Send all of a refusal, but not yet its end, with which the server would close the connection: its caller is
        still sending, and would be reset before it has read why."""
        await send({**last, "more_body": True})
        with contextlib.suppress(TimeoutError):
            async with self._clock.timeout(LINGER_SECONDS):
                await body.drop_the_rest()
        await send({"type": "http.response.body", "body": b""})


async def send_error(scope: Scope, send: Send, error: Exception) -> None:
    """Answer with an error, in the dialect of the path that was asked."""
    wire = to_wire(error)
    more = [(name.lower().encode(), value.encode()) for name, value in wire.headers.items()]
    body = error_body(route_path(scope), wire, request_id=request_id_of(scope))
    await send_body(send, body, status=wire.status, more=more)
