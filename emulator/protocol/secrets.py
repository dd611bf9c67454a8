"""Secrets: by name, and the anonymous ones that `Secret.from_dict` and `env=` make.

Limits: https://modal.com/docs/guide/secrets. One without a name and without an app is kept as long as the emulator: its
client sends no heartbeats.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

from google.protobuf.empty_pb2 import Empty
from modal_proto import api_pb2

from emulator.protocol.dispatch import invalid, not_found
from emulator.protocol.named import NamedObjects
from emulator.protocol.schema import made
from emulator.state import WORKSPACE, Secret

if TYPE_CHECKING:
    from collections.abc import Mapping

    from emulator.clock import Clock
    from emulator.protocol.dispatch import Caller
    from emulator.state import State

MAX_KEY = 16_384
"""Characters."""
MAX_VALUE = 32_768
"""Characters."""

_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class SecretHandlers:
    def __init__(self, state: State, clock: Clock) -> None:
        self.objects = NamedObjects("Secret", "st", state.secrets, state)
        self._clock = clock

    async def SecretGetOrCreate(
        self, request: api_pb2.SecretGetOrCreateRequest, _: Caller
    ) -> api_pb2.SecretGetOrCreateResponse:
        _check(request.env_dict)
        found = self.objects.get_or_create(request, partial(self._make, request))
        if request.object_creation_type == api_pb2.OBJECT_CREATION_TYPE_CREATE_OVERWRITE_IF_EXISTS:
            found.values = dict(request.env_dict)
        if missing := [key for key in request.required_keys if key not in found.values]:
            raise not_found(f"Secret '{found.name}' is missing key(s): {', '.join(missing)}")
        return api_pb2.SecretGetOrCreateResponse(secret_id=found.secret_id, metadata=_metadata(found))

    def _make(self, request: api_pb2.SecretGetOrCreateRequest, secret_id: str, name: str, environment: str) -> Secret:
        return Secret(secret_id, name, environment, dict(request.env_dict), self._clock.time(), app_id=request.app_id)

    async def SecretList(self, request: api_pb2.SecretListRequest, _: Caller) -> api_pb2.SecretListResponse:
        environment, named = self.objects.listed(request.environment_name, request.pagination)
        return api_pb2.SecretListResponse(items=[_listed(s) for s in named], environment_name=environment)

    async def SecretGetInfo(self, request: api_pb2.SecretGetInfoRequest, _: Caller) -> api_pb2.SecretGetInfoResponse:
        return api_pb2.SecretGetInfoResponse(metadata=_metadata(self.objects.get(request.secret_id)))

    async def SecretUpdate(self, request: api_pb2.SecretUpdateRequest, _: Caller) -> Empty:
        values = self.objects.get(request.secret_id).values
        _check({update.key: update.value for update in request.updates})
        for update in request.updates:
            if update.HasField("value"):
                values[update.key] = update.value
            else:
                values.pop(update.key, None)
        return Empty()

    async def SecretDelete(self, request: api_pb2.SecretDeleteRequest, _: Caller) -> Empty:
        self.objects.remove(request.secret_id)
        return Empty()


def _check(values: Mapping[str, str]) -> None:
    for key, value in values.items():
        if not _KEY.fullmatch(key) or len(key) > MAX_KEY:
            rule = f"up to {MAX_KEY:,} letters, digits and underscores, no digit first"
            raise invalid(f"Invalid key {key[:80]!r} of a Secret: {rule}")
        if len(value) > MAX_VALUE:
            raise invalid(f"The value of {key} is too long for a Secret: up to {MAX_VALUE:,} characters")


def _metadata(secret: Secret) -> api_pb2.SecretMetadata:
    return made(
        api_pb2.SecretMetadata,
        name=secret.name,
        keys=sorted(secret.values),
        environment_name=secret.environment,
        creation_info=api_pb2.CreationInfo(created_at=secret.created_at, created_by=WORKSPACE),
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
