"""Short-lived tokens that the emulator gives out and takes back.

They are JSON Web Tokens (the client reads when they expire), signed with a key that lives as long as the emulator.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emulator.clock import Clock

LIFETIME = 20 * 60
"""Seconds."""

HEADER = {"alg": "HS256", "typ": "JWT"}


class ShortTokens:
    """Makes tokens, and knows its own. Each kind has its own `claims`, so that none is good for another's purpose."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._key = secrets.token_bytes(32)

    def issue(self, **claims: str) -> str:
        body = f"{_encoded(HEADER)}.{_encoded({'exp': int(self._clock.time()) + LIFETIME, **claims})}"
        return f"{body}.{self._signature(body)}"

    def admits(self, token: str, **claims: str) -> bool:
        """Whether it is one of these, has just these claims, and has not expired."""
        body, _, signature = token.rpartition(".")
        if not hmac.compare_digest(signature.encode(), self._signature(body).encode()):
            return False
        payload = body.partition(".")[2]
        said = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return bool(said.pop("exp") > self._clock.time() and said == claims)

    def _signature(self, body: str) -> str:
        return _text(hmac.digest(self._key, body.encode(), hashlib.sha256))


def _encoded(value: dict[str, Any]) -> str:
    return _text(json.dumps(value, separators=(",", ":")).encode())


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
