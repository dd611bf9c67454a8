"""Environments and the workspace: EnvironmentGetOrCreate and kin, names, proxy tokens."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

from google.protobuf.empty_pb2 import Empty
from modal_proto import api_pb2

from emulator.ids import new_id
from emulator.protocol.dispatch import exists, not_found
from emulator.protocol.named import check_environment_name, environment_named
from emulator.protocol.schema import has_field, made
from emulator.state import DEFAULT_ENVIRONMENT, IMAGE_BUILDER_VERSION, WORKSPACE, Environment, ProxyToken

if TYPE_CHECKING:
    from emulator.clock import Clock
    from emulator.protocol.dispatch import Caller
    from emulator.state import State


class EnvironmentHandlers:
    def __init__(self, state: State, clock: Clock) -> None:
        self._state = state
        self._clock = clock
        if not self._known(DEFAULT_ENVIRONMENT):
            self._create(DEFAULT_ENVIRONMENT)

    def _known(self, name: str) -> bool:
        return any(e.name == (name or DEFAULT_ENVIRONMENT) for e in self._state.environments.values())

    def _create(self, name: str) -> Environment:
        check_environment_name(name)
        environment = Environment(new_id("en"), name, self._clock.time())
        self._state.environments[environment.environment_id] = environment
        return environment

    async def EnvironmentGetOrCreate(
        self, request: api_pb2.EnvironmentGetOrCreateRequest, _: Caller
    ) -> api_pb2.EnvironmentGetOrCreateResponse:
        name = request.deployment_name
        if request.object_creation_type == api_pb2.OBJECT_CREATION_TYPE_CREATE_IF_MISSING and not self._known(name):
            found = self._create(name)
        else:
            found = environment_named(self._state, name)
        return api_pb2.EnvironmentGetOrCreateResponse(
            environment_id=found.environment_id,
            metadata=api_pb2.EnvironmentMetadata(
                name=found.name,
                settings=api_pb2.EnvironmentSettings(image_builder_version=IMAGE_BUILDER_VERSION),
            ),
        )

    async def EnvironmentList(self, _request: Empty, _: Caller) -> api_pb2.EnvironmentListResponse:
        return api_pb2.EnvironmentListResponse(
            items=[
                api_pb2.EnvironmentListItem(
                    name=e.name,
                    environment_id=e.environment_id,
                    created_at=e.created_at,
                    default=e.name == DEFAULT_ENVIRONMENT,
                )
                for e in self._state.environments.values()
            ]
        )

    async def EnvironmentCreate(self, request: api_pb2.EnvironmentCreateRequest, _: Caller) -> Empty:
        if self._known(request.name):
            raise exists(f"Environment '{request.name}' already exists")
        self._create(request.name)
        return Empty()

    async def WorkspaceNameLookup(self, _request: Empty, _: Caller) -> api_pb2.WorkspaceNameLookupResponse:
        return api_pb2.WorkspaceNameLookupResponse(workspace_name=WORKSPACE, username=WORKSPACE)

    async def ClientHello(self, _request: Empty, _: Caller) -> api_pb2.ClientHelloResponse:
        return api_pb2.ClientHelloResponse(image_builder_version=IMAGE_BUILDER_VERSION)


class ProxyTokenHandlers:
    """`modal workspace proxy-tokens`: what the ingress asks of callers of a protected endpoint."""

    def __init__(self, state: State, clock: Clock) -> None:
        self._tokens = state.proxy_tokens
        self._clock = clock

    async def WebhookTokenCreate(
        self, request: api_pb2.WebhookTokenCreateRequest, _: Caller
    ) -> api_pb2.TokenCreateResponse:
        name = request.name if has_field(request, "name") else ""
        token = ProxyToken(new_id("wk"), "ws-" + secrets.token_urlsafe(24), name=name, created_at=self._clock.time())
        self._tokens[token.token_id] = token
        return api_pb2.TokenCreateResponse(token_id=token.token_id, token_secret=token.secret)

    async def WebhookTokenList(self, _request: Empty, _: Caller) -> api_pb2.WebhookTokenListResponse:
        return api_pb2.WebhookTokenListResponse(tokens=[_listed(token) for token in self._tokens.values()])

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
    return made(api_pb2.WebhookToken, token_id=token.token_id, created_at=token.created_at, name=token.name)
