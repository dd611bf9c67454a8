"""Short-lived tokens with which the client itself asks a Server: `Modal-Authorization: Bearer …`.

`Server.sessions` and `modal curl` get one of the control plane instead of being given a proxy token. They are JSON Web
Tokens (the client reads when they expire), signed with a key that lives as long as the emulator.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from typing import TYPE_CHECKING, Any

from modal_proto import api_pb2

from emulator.protocol.dispatch import not_found

if TYPE_CHECKING:
    from emulator.clock import Clock
    from emulator.protocol.dispatch import Caller
    from emulator.state import State

LIFETIME = 20 * 60
"""Seconds."""

HEADER = {"alg": "HS256", "typ": "JWT"}


class FlashTokens:
    """Makes tokens, and knows its own."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._key = secrets.token_bytes(32)

    def issue(self) -> str:
        body = f"{_encoded(HEADER)}.{_encoded({'exp': int(self._clock.time()) + LIFETIME})}"
        return f"{body}.{self._signature(body)}"

    def admits(self, token: str) -> bool:
        """Whether it is one of these and has not expired."""
        body, _, signature = token.rpartition(".")
        if not hmac.compare_digest(signature.encode(), self._signature(body).encode()):
            return False
        payload = body.partition(".")[2]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return bool(claims["exp"] > self._clock.time())

    def _signature(self, body: str) -> str:
        return _text(hmac.digest(self._key, body.encode(), hashlib.sha256))


class FlashHandlers:
    def __init__(self, state: State, tokens: FlashTokens) -> None:
        self._state = state
        self._tokens = tokens

    async def FunctionGetFlashAuthToken(
        self, request: api_pb2.FunctionGetFlashAuthTokenRequest, _: Caller
    ) -> api_pb2.FunctionGetFlashAuthTokenResponse:
        record = self._state.functions.get(request.function_id)
        if record is None or not record.definition.is_server:
            raise not_found(f"No Server with ID {request.function_id}")
        return api_pb2.FunctionGetFlashAuthTokenResponse(token=self._tokens.issue())

    async def CurlGetAuthToken(
        self, _request: api_pb2.CurlAuthTokenRequest, _: Caller
    ) -> api_pb2.CurlAuthTokenResponse:
        return api_pb2.CurlAuthTokenResponse(token=self._tokens.issue())


def _encoded(value: dict[str, Any]) -> str:
    return _text(json.dumps(value, separators=(",", ":")).encode())


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
