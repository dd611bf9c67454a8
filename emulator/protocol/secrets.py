"""Secrets: by name, and the anonymous ones that `Secret.from_dict` and `env=` make."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.empty_pb2 import Empty
from modal_proto import api_pb2

from emulator.ids import new_id
from emulator.protocol.dispatch import exists, not_found
from emulator.state import DEFAULT_ENVIRONMENT, Secret

if TYPE_CHECKING:
    from emulator.clock import Clock
    from emulator.protocol.dispatch import Caller
    from emulator.state import State

ANONYMOUS = frozenset({api_pb2.OBJECT_CREATION_TYPE_ANONYMOUS_OWNED_BY_APP, api_pb2.OBJECT_CREATION_TYPE_EPHEMERAL})


class SecretHandlers:
    def __init__(self, state: State, clock: Clock) -> None:
        self._secrets = state.secrets
        self._clock = clock

    async def SecretGetOrCreate(
        self, request: api_pb2.SecretGetOrCreateRequest, _: Caller
    ) -> api_pb2.SecretGetOrCreateResponse:
        kind = request.object_creation_type
        environment = request.environment_name or DEFAULT_ENVIRONMENT
        found = None if kind in ANONYMOUS else self._named(request.deployment_name, environment)
        if found is None:
            if kind == api_pb2.OBJECT_CREATION_TYPE_UNSPECIFIED:
                raise not_found(f"Secret '{request.deployment_name}' not found in environment '{environment}'")
            found = self._create(request, environment)
        elif kind == api_pb2.OBJECT_CREATION_TYPE_CREATE_FAIL_IF_EXISTS:
            raise exists(f"Secret '{request.deployment_name}' already exists in environment '{environment}'")
        elif kind == api_pb2.OBJECT_CREATION_TYPE_CREATE_OVERWRITE_IF_EXISTS:
            found.values = dict(request.env_dict)
        if missing := [key for key in request.required_keys if key not in found.values]:
            raise not_found(f"Secret '{found.name}' is missing key(s): {', '.join(missing)}")
        return api_pb2.SecretGetOrCreateResponse(secret_id=found.secret_id, metadata=_metadata(found))

    def _named(self, name: str, environment: str) -> Secret | None:
        return next(
            (s for s in self._secrets.values() if s.name and (s.name, s.environment) == (name, environment)), None
        )

    def _create(self, request: api_pb2.SecretGetOrCreateRequest, environment: str) -> Secret:
        name = "" if request.object_creation_type in ANONYMOUS else request.deployment_name
        secret = Secret(new_id("st"), name, environment, dict(request.env_dict), self._clock.time())
        self._secrets[secret.secret_id] = secret
        return secret

    async def SecretList(self, request: api_pb2.SecretListRequest, _: Caller) -> api_pb2.SecretListResponse:
        environment = request.environment_name or DEFAULT_ENVIRONMENT
        named = [s for s in self._secrets.values() if s.name and s.environment == environment]
        if before := request.pagination.created_before:
            named = [s for s in named if s.created_at < before]
        named.sort(key=lambda s: s.created_at, reverse=True)
        if limit := request.pagination.max_objects:
            named = named[:limit]
        return api_pb2.SecretListResponse(items=[_listed(s) for s in named], environment_name=environment)

    async def SecretGetInfo(self, request: api_pb2.SecretGetInfoRequest, _: Caller) -> api_pb2.SecretGetInfoResponse:
        return api_pb2.SecretGetInfoResponse(metadata=_metadata(self._get(request.secret_id)))

    async def SecretUpdate(self, request: api_pb2.SecretUpdateRequest, _: Caller) -> Empty:
        values = self._get(request.secret_id).values
        for update in request.updates:
            if update.HasField("value"):
                values[update.key] = update.value
            else:
                values.pop(update.key, None)
        return Empty()

    async def SecretDelete(self, request: api_pb2.SecretDeleteRequest, _: Caller) -> Empty:
        del self._secrets[self._get(request.secret_id).secret_id]
        return Empty()

    def _get(self, secret_id: str) -> Secret:
        if secret_id not in self._secrets:
            raise not_found(f"No Secret with ID {secret_id}")
        return self._secrets[secret_id]


def _metadata(secret: Secret) -> api_pb2.SecretMetadata:
    return api_pb2.SecretMetadata(
        name=secret.name,
        keys=sorted(secret.values),
        environment_name=secret.environment,
        creation_info=api_pb2.CreationInfo(created_at=secret.created_at),
        last_used_at=secret.last_used_at,
    )


def _listed(secret: Secret) -> api_pb2.SecretListItem:
    return api_pb2.SecretListItem(
        label=secret.name,
        created_at=secret.created_at,
        last_used_at=secret.last_used_at,
        environment_name=secret.environment,
        secret_id=secret.secret_id,
        metadata=_metadata(secret),
    )
