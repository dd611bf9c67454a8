"""Who asks: by the key that a request carries, else by the address that it comes from.

`decide` is pure; `Authentication` applies it to every request, and looks for a key that the configuration does not have
in the table. Callers send a key as `Authorization: Bearer <key>` or
as `x-api-key: <key>`. A browser's WebSocket, which cannot set headers, offers it as a subprotocol beside another one
that the server then accepts: `new WebSocket(url, ["chat", "openai-insecure-api-key.<key>"])`. No key is taken from a
query: URLs are logged.
"""

from __future__ import annotations

import functools
import hmac
import math
from typing import TYPE_CHECKING

from infra.keys import fingerprint
from web.addresses import client_address
from web.asgi import header
from web.caller import Caller, request_id_of
from web.dialects.errors import error_body
from web.errors import KeyRefused, PermissionDenied, to_wire
from web.key_errors import KeysUnavailable
from web.middleware import route_path

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.types import ASGIApp, Receive, Scope, Send

    from infra.settings import ApiKey, KeyScope, Model, Security
    from web.clock import Clock
    from web.errors import ServiceError
    from web.known_keys import KnownKeys

PUBLIC_PATHS = frozenset({"/", "/health", "/readiness", "/openapi.json", "/favicon.ico"})
PUBLIC_PREFIX = "/static/"
"""What anybody may have: the page and what it is made of, whether the service lives, and how it is spoken to."""
KEY_PROTOCOL = "openai-insecure-api-key."
"""How a browser's WebSocket carries a key: as OpenAI's realtime API takes it."""


class Keyring:
    """The keys of the configuration that are accepted, by their fingerprints."""

    def __init__(self, keys: Sequence[ApiKey], *, alone: bool = True) -> None:
        """Raises ValueError when no key is enabled and there are no others (it is `alone`): nobody could ever ask."""
        self._callers = [(key.key.encode(), _caller_with(key), _end_of(key)) for key in keys if key.enabled]
        if alone and not self._callers:
            raise ValueError("keys are asked for, and no API key is enabled")

    def find(self, key: str, *, now: float) -> Caller | None:
        """Whose key it is, at `now` (seconds since the epoch). Takes the same time whichever it is, and whether it is
        one."""
        given = fingerprint(key).encode()
        found = None
        for known, caller, end in self._callers:
            if hmac.compare_digest(known, given) and now < end:
                found = caller
        return found


def is_public(path: str) -> bool:
    return path in PUBLIC_PATHS or path.startswith(PUBLIC_PREFIX)


def decide(found: Caller | None, *, asked: bool, path: str, address: Callable[[], str]) -> Caller:
    """Who may go on to `path`. `found`: whose the request's key is. `asked`: whether keys are asked for. `address`:
    where the request comes from, which takes a moment. Raises KeyRefused."""
    if found is not None:
        return found
    if not asked:
        return Caller(identity=f"ip:{address()}")
    if is_public(path):
        return Caller(identity=f"ip:{address()}", scopes=frozenset())
    raise KeyRefused


def require_scope(caller: Caller, scope: KeyScope) -> None:
    """Raise PermissionDenied unless the caller's key has this scope. Without keys, everybody has all."""
    if scope not in caller.scopes:
        raise PermissionDenied(f"This API key lacks the scope '{scope}'.", code="insufficient_scope")


def require_model(caller: Caller, model: Model | None) -> None:
    """Raise PermissionDenied unless the caller may ask this model. An unknown one (None) is for others to tell."""
    if caller.models is None or model is None or model.id in caller.models or model.name in caller.models:
        return
    raise PermissionDenied(
        f"This API key may not use the model '{model.id}'.", code="model_not_allowed", param="model"
    )  # fmt: skip


def presented_key(scope: Scope) -> str | None:
    """The key that an HTTP request or a WebSocket carries; of several, the Bearer's counts."""
    authorization = header(scope, b"authorization")
    if authorization is not None:
        scheme, _, credentials = authorization.partition(" ")
        if scheme.lower() == "bearer" and credentials.strip():
            return credentials.strip()
    if given := header(scope, b"x-api-key"):
        return given
    offered: list[str] = scope.get("subprotocols") or []
    return next((name.removeprefix(KEY_PROTOCOL) for name in offered if name.startswith(KEY_PROTOCOL)), None)


def accepted_subprotocol(scope: Scope) -> str | None:
    """What to accept a WebSocket with: the first subprotocol that is not a key, which no answer may repeat. Browsers
    insist on one where they offered any."""
    offered: list[str] = scope.get("subprotocols") or []
    return next((name for name in offered if not name.startswith(KEY_PROTOCOL)), None)


class Authentication:
    """Finds out who asks, for `caller_of`, and turns away who may not. Raises KeyRefused (HTTP), refuses the handshake
    (WebSocket)."""

    def __init__(
        self, app: ASGIApp, security: Security, *, clock: Clock, known: KnownKeys | None = None,
        behind_proxy: bool = False,
    ) -> None:  # fmt: skip
        """`known`: the keys beside those of the configuration. Raises ValueError when keys are asked for, none of the
        configuration's is enabled, and there are no others. `behind_proxy`: see `client_address`."""
        self._app = app
        self._clock = clock
        self._keyring = Keyring(security.api_keys, alone=known is None) if security.enable_auth else None
        self._known = known if security.enable_auth else None
        self._proxies = security.trusted_proxies
        self._behind_proxy = behind_proxy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        try:
            caller = await self._caller(scope)
        except (KeyRefused, KeysUnavailable) as error:
            if scope["type"] == "http":
                raise
            await refuse_handshake(scope, receive, send, error)
            return
        state = scope.setdefault("state", {})
        state["caller"] = caller
        if scope["type"] == "websocket":
            state["caller_now"] = functools.partial(self._caller, scope)
        await self._app(scope, receive, send)

    async def _caller(self, scope: Scope) -> Caller:
        """Raises KeyRefused, KeysUnavailable."""
        found, path, asked = None, route_path(scope), self._keyring is not None
        if self._keyring is not None and (key := presented_key(scope)) is not None:
            found = self._keyring.find(key, now=self._clock.time())
            if found is None and self._known is not None and not is_public(path):
                found = await self._known.find(key)
        return decide(found, asked=asked, path=path, address=functools.partial(self._address, scope))

    def _address(self, scope: Scope) -> str:
        return client_address(scope, self._proxies, behind_proxy=self._behind_proxy)


async def refuse_handshake(scope: Scope, receive: Receive, send: Send, error: ServiceError) -> None:
    """Answer a WebSocket's handshake with an error's status and body, or where the server cannot, with its 403."""
    await receive()  # websocket.connect
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1008})
        return
    wire = to_wire(error)
    headers = [(name.lower().encode(), value.encode()) for name, value in wire.headers.items()]
    headers.append((b"content-type", b"application/json"))
    body = error_body(route_path(scope), wire, request_id=request_id_of(scope))
    await send({"type": "websocket.http.response.start", "status": wire.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})


def _end_of(key: ApiKey) -> float:
    """Seconds since the epoch, from when on it is refused."""
    return math.inf if key.expires_at is None else key.expires_at.timestamp()


def _caller_with(key: ApiKey) -> Caller:
    digits = key.key.partition(":")[2]
    return Caller(
        identity=f"key:{digits[:16]}",
        name=key.name,
        scopes=frozenset(key.scopes),
        models=frozenset(key.models) or None,
        requests_per_minute=key.rate_limit_per_minute,
        tokens_per_minute=key.tokens_per_minute,
        monthly_budget=key.monthly_budget,
    )
