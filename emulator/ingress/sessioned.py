"""Requests to a Server with sticky sessions: started, terminated, and routed by their token."""

from __future__ import annotations

import asyncio
import json
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from emulator.ingress.auth import OWN, bearer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from emulator.ingress.base import ServerTarget
    from emulator.ingress.exchange import Request
    from emulator.ingress.http1 import RequestHead
    from emulator.ingress.sessions import Sessions

START, TERMINATE = b"/_modal/sessions/start", b"/_modal/sessions/terminate"
SESSION_ID = b"x-modal-server-session-id"
"""What the container is told."""

QUERY = "modal_session_token"
COOKIE = "__Host-modal-session-token"
IDLE_TIMEOUT = 600

NOT_IN_A_SESSION = "modal-http: missing session token"
NO_SESSION = "modal-http: session not found"
NO_ROOM = "modal-http: no container has room for the session"
BAD_TIMEOUT = "modal-http: x-modal-server-session-idle-timeout must be a positive integer"


class Sessioned:
    """Serves the requests of one Server while it is `@modal.sessioned()`."""

    def __init__(self, sessions: Sessions, *, proxy: Callable[[Request, ServerTarget], Awaitable[bool]]) -> None:
        self._sessions = sessions
        self._proxy = proxy

    async def serve(self, request: Request) -> None:
        path = _path(request.head)
        if request.head.method == b"POST" and path == START:
            await self._start(request)
        elif request.head.method == b"POST" and path == TERMINATE:
            self._terminate(request)
        else:
            await self._route(request)

    async def _start(self, request: Request) -> None:
        text = (request.head.first(b"x-modal-server-session-idle-timeout") or b"%d" % IDLE_TIMEOUT).decode("latin-1")
        if not text.isdecimal() or not int(text):
            request.reply.text(400, BAD_TIMEOUT)
            return
        key = (request.head.first(b"x-idempotency-key") or b"").decode("latin-1")
        waiting = asyncio.ensure_future(self._sessions.start(idle_timeout=float(text), key=key))

        def give_up() -> None:
            waiting.cancel()

        request.on_left(give_up)
        try:
            session = await waiting
        except asyncio.CancelledError:
            if request.left:
                return  # nobody waits for a place any more
            raise
        request.on_left(None)
        if session is None:
            request.reply.text(503, NO_ROOM)
            return
        answer = json.dumps({"session_id": session.session_id, "token": session.token}).encode()
        request.reply.start(200, [(b"Content-Type", b"application/json")], length=len(answer))
        request.reply.write(answer, last=True)

    def _terminate(self, request: Request) -> None:
        token = (request.head.first(b"x-modal-server-session-token") or b"").decode("latin-1")
        session = self._sessions.find(token)
        if session is None:
            request.reply.text(404, NO_SESSION)
            return
        self._sessions.end(session)
        request.reply.start(200, [], length=0)
        request.reply.write(b"", last=True)

    async def _route(self, request: Request) -> None:
        head = request.head
        carried = bearer(head.headers, OWN)
        asked = _from_query(head) if carried is None else None
        token = carried or asked or _from_cookie(head)
        if token is None:
            request.reply.text(401, NOT_IN_A_SESSION)
            return
        session = self._sessions.find(token)
        if session is None:
            request.reply.text(404, NO_SESSION)
            return
        if asked is not None:
            _to_cookie(request, session.token)
            return
        head.target = _without_token(head.target)
        head.headers = [pair for pair in head.headers if pair[0].lower() != SESSION_ID]
        head.headers.append((SESSION_ID, session.session_id.encode()))
        async with self._sessions.used(session):
            if not await self._proxy(request, session.target):
                request.reply.text(502, "modal-http: bad gateway: the server refused the connection")


def is_control(head: RequestHead) -> bool:
    """Whether a request starts or terminates a session: these have to be authorized, and no session lets them pass."""
    return head.method == b"POST" and _path(head) in (START, TERMINATE)


def _path(head: RequestHead) -> bytes:
    return head.target.partition(b"?")[0].removeprefix(head.prefix)


def _from_query(head: RequestHead) -> str | None:
    query = head.target.partition(b"?")[2]
    return dict(parse_qsl(query.decode("latin-1"))).get(QUERY) if QUERY.encode() in query else None


def _without_token(target: bytes) -> bytes:
    path, _, query = target.partition(b"?")
    kept = b"&".join(part for part in query.split(b"&") if part and not part.startswith(QUERY.encode() + b"="))
    return path + (b"?" + kept if kept else b"")


def _from_cookie(head: RequestHead) -> str | None:
    for name, value in head.headers:
        if name.lower() == b"cookie":
            try:
                found = SimpleCookie(value.decode("latin-1")).get(COOKIE)
            except CookieError:
                continue
            if found is not None:
                return found.value
    return None


def _to_cookie(request: Request, token: str) -> None:
    """Send a browser to the same address with its token in a cookie, where no page and no log sees it."""
    cookie = f"{COOKIE}={token}; Path=/; Secure; HttpOnly; SameSite=Lax"
    headers = [
        (b"Location", _without_token(request.head.target)),
        (b"Set-Cookie", cookie.encode("latin-1")),
        (b"Cache-Control", b"no-store"),
    ]
    request.reply.start(307, headers, length=0)
    request.reply.write(b"", last=True)
