"""Proxy authorization: `Modal-Key` and `Modal-Secret`. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emulator.ingress.http1 import first

if TYPE_CHECKING:
    from emulator.ingress.base import Authorize
    from emulator.ingress.http1 import Headers

CREDENTIALS = (b"modal-key", b"modal-secret")
"""Headers that are for the ingress alone and never go on to user code."""

MISSING = "modal-http: missing credentials for proxy authorization"
"""Modal's own words."""

INVALID = "modal-http: invalid credentials for proxy authorization"


def refusal(headers: Headers, *, required: bool, authorize: Authorize) -> str | None:
    """Why a request is to be answered 401, or None when it may pass."""
    if not required:
        return None
    key, secret = (first(headers, name) for name in CREDENTIALS)
    if not key or not secret:
        return MISSING
    return None if authorize(key.decode("latin-1"), secret.decode("latin-1")) else INVALID
