"""`modal workspace proxy-tokens`: what the ingress asks of callers of a protected endpoint.

As in a workspace without RBAC: every token is good for every environment.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

from google.protobuf.empty_pb2 import Empty
from modal_proto import api_pb2

from emulator.ids import new_id
from emulator.protocol.dispatch import not_found, unimplemented
from emulator.protocol.named import environment_named
from emulator.protocol.schema import has_field, made
from emulator.state import USER_ID, WORKSPACE, ProxyToken

if TYPE_CHECKING:
    from emulator.clock import Clock
    from emulator.protocol.dispatch import Caller
    from emulator.state import State


class ProxyTokenHandlers:
    def __init__(self, state: State, clock: Clock) -> None:
        self._state = state
        self._tokens = state.proxy_tokens
        self._clock = clock

    async def WebhookTokenCreate(
        self, request: api_pb2.WebhookTokenCreateRequest, _: Caller
    ) -> api_pb2.TokenCreateResponse:
        if request.scoped:
            raise unimplemented("scoped proxy tokens")
        name = request.name if has_field(request, "name") else ""
        token = ProxyToken(new_id("wk"), "ws-" + secrets.token_urlsafe(24), name=name, created_at=self._clock.time())
        self._tokens[token.token_id] = token
        return api_pb2.TokenCreateResponse(token_id=token.token_id, token_secret=token.secret)

    async def WebhookTokenList(self, _request: Empty, _: Caller) -> api_pb2.WebhookTokenListResponse:
        return api_pb2.WebhookTokenListResponse(tokens=[_listed(token) for token in self._tokens.values()])

    async def WebhookTokenListForEnvironment(
        self, request: api_pb2.WebhookTokenListForEnvironmentRequest, caller: Caller
    ) -> api_pb2.WebhookTokenListResponse:
        environment_named(self._state, request.environment_name)
        return await self.WebhookTokenList(Empty(), caller)

    async def WebhookTokenUpdate(self, request: api_pb2.WebhookTokenUpdateRequest, _: Caller) -> api_pb2.WebhookToken:
        token = replace(self._get(request.token_id), name=request.name)
        self._tokens[token.token_id] = token
        return _listed(token)

    async def WebhookTokenDelete(self, request: api_pb2.TokenDeleteRequest, _: Caller) -> Empty:
        del self._tokens[self._get(request.token_id).token_id]
        return Empty()

    def _get(self, token_id: str) -> ProxyToken:
        if token_id not in self._tokens:
            raise not_found(f"No proxy token with ID {token_id}")
        return self._tokens[token_id]


def _listed(token: ProxyToken) -> api_pb2.WebhookToken:
    """A token as lists show it: without its secret."""
    listed = made(api_pb2.WebhookToken, token_id=token.token_id, created_at=token.created_at, name=token.name)
    if has_field(listed, "created_by"):
        listed.created_by.user_id, listed.created_by.username = USER_ID, WORKSPACE
    return listed
