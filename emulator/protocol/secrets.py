"""Secrets: by name, and the anonymous ones that `Secret.from_dict` and `env=` make."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from google.protobuf.empty_pb2 import Empty
from modal_proto import api_pb2

from emulator.protocol.dispatch import not_found
from emulator.protocol.named import NamedObjects
from emulator.protocol.schema import made
from emulator.state import Secret

if TYPE_CHECKING:
    from emulator.clock import Clock
    from emulator.protocol.dispatch import Caller
    from emulator.state import State


class SecretHandlers:
    def __init__(self, state: State, clock: Clock) -> None:
        self._secrets = NamedObjects("Secret", "st", state.secrets, state)
        self._clock = clock

    async def SecretGetOrCreate(
        self, request: api_pb2.SecretGetOrCreateRequest, _: Caller
    ) -> api_pb2.SecretGetOrCreateResponse:
        found = self._secrets.get_or_create(request, partial(self._make, request))
        if request.object_creation_type == api_pb2.OBJECT_CREATION_TYPE_CREATE_OVERWRITE_IF_EXISTS:
            found.values = dict(request.env_dict)
        if missing := [key for key in request.required_keys if key not in found.values]:
            raise not_found(f"Secret '{found.name}' is missing key(s): {', '.join(missing)}")
        return api_pb2.SecretGetOrCreateResponse(secret_id=found.secret_id, metadata=_metadata(found))

    def _make(self, request: api_pb2.SecretGetOrCreateRequest, secret_id: str, name: str, environment: str) -> Secret:
        return Secret(secret_id, name, environment, dict(request.env_dict), self._clock.time())

    async def SecretList(self, request: api_pb2.SecretListRequest, _: Caller) -> api_pb2.SecretListResponse:
        environment, named = self._secrets.listed(request.environment_name, request.pagination)
        return api_pb2.SecretListResponse(items=[_listed(s) for s in named], environment_name=environment)

    async def SecretGetInfo(self, request: api_pb2.SecretGetInfoRequest, _: Caller) -> api_pb2.SecretGetInfoResponse:
        return api_pb2.SecretGetInfoResponse(metadata=_metadata(self._secrets.get(request.secret_id)))

    async def SecretUpdate(self, request: api_pb2.SecretUpdateRequest, _: Caller) -> Empty:
        values = self._secrets.get(request.secret_id).values
        for update in request.updates:
            if update.HasField("value"):
                values[update.key] = update.value
            else:
                values.pop(update.key, None)
        return Empty()

    async def SecretDelete(self, request: api_pb2.SecretDeleteRequest, _: Caller) -> Empty:
        self._secrets.remove(request.secret_id)
        return Empty()


def _metadata(secret: Secret) -> api_pb2.SecretMetadata:
    return made(
        api_pb2.SecretMetadata,
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
