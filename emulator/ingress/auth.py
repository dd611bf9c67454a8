"""Who may ask: proxy tokens and the client's own. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from emulator.ingress.http1 import first

if TYPE_CHECKING:
    from emulator.ingress.http1 import Headers

KEY, SECRET = b"modal-key", b"modal-secret"
OWN = b"modal-authorization"
AUTHORIZATION = b"authorization"

CREDENTIALS = (KEY, SECRET, OWN)
"""Headers that are for the ingress alone and never go on to user code."""

ID_PREFIX = "wk-"
"""Of a proxy token's id: what `Authorization` begins with otherwise is the application's own business."""

MISSING = "modal-http: missing credentials for proxy authorization"
"""Modal's own words."""

INVALID = "modal-http: invalid credentials for proxy authorization"


class Authorize(Protocol):
    """Knows the tokens of this workspace."""

    def proxy_token(self, token_id: str, secret: str) -> bool: ...

    def own_token(self, token: str) -> bool:
        """Whether the control plane has given that token to a client of its own."""


def refusal(headers: Headers, *, required: bool, authorize: Authorize) -> str | None:
    """Why a request is to be answered 401, or None when it may pass."""
    if not required:
        return None
    own = bearer(headers, OWN)
    if own is not None:
        return None if authorize.own_token(own) else INVALID
    pair = _proxy_token(headers)
    if pair is None:
        return MISSING
    return None if authorize.proxy_token(*pair) else INVALID


def stripped(headers: Headers) -> Headers:
    """What goes on to user code: a proxy token does not, wherever it was sent."""
    hide = CREDENTIALS if _combined(headers) is None else (*CREDENTIALS, AUTHORIZATION)
    return [(name, value) for name, value in headers if name.lower() not in hide]


def bearer(headers: Headers, name: bytes) -> str | None:
    """The token of a header `Bearer <token>`."""
    scheme, _, token = (first(headers, name) or b"").decode("latin-1").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


def _proxy_token(headers: Headers) -> tuple[str, str] | None:
    """Id and secret, sent as `Modal-Key` and `Modal-Secret` or as `Authorization: Bearer <id>.<secret>`:
    https://modal.com/docs/guide/webhook-proxy-auth."""
    key, secret = first(headers, KEY), first(headers, SECRET)
    if key and secret:
        return key.decode("latin-1"), secret.decode("latin-1")
    return _combined(headers)


def _combined(headers: Headers) -> tuple[str, str] | None:
    token_id, dot, secret = (bearer(headers, AUTHORIZATION) or "").partition(".")
    return (token_id, secret) if dot and token_id.startswith(ID_PREFIX) else None
