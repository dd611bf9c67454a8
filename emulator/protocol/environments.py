"""Environments: what is known by a name is known by it in one of them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol

from google.protobuf.empty_pb2 import Empty
from modal_proto import api_pb2

from emulator.ids import new_id
from emulator.protocol.dispatch import exists, failed_precondition, invalid, not_found, unimplemented
from emulator.protocol.named import check_environment_name, environment_named
from emulator.protocol.schema import has_field
from emulator.state import DEFAULT_ENVIRONMENT, IMAGE_BUILDER_VERSION, USER_ID, WORKSPACE, Environment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from emulator.clock import Clock
    from emulator.protocol.dispatch import Caller
    from emulator.state import State

MAX_ENVIRONMENTS = 1500
"""Of a workspace: https://modal.com/docs/guide/environments"""
MAX_SUFFIX = 32
"""Characters of a web suffix: labels have to have room behind it."""

_SUFFIX = re.compile(r"([a-z0-9]([a-z0-9-]*[a-z0-9])?)?")


class Inhabitants(Protocol):
    """What is in environments: apps, Secrets, Volumes, Dicts, Queues."""

    def rename_environment(self, old: str, new: str) -> None:
        """What was in the one environment is in the other."""

    async def remove_environment(self, name: str) -> None:
        """Everything in there is gone."""


class EnvironmentHandlers:
    def __init__(self, state: State, clock: Clock, inhabitants: Sequence[Inhabitants] = ()) -> None:
        self._state = state
        self._clock = clock
        self._inhabitants = inhabitants
        if not self._known(""):
            main = next((e for e in state.environments.values() if e.name == DEFAULT_ENVIRONMENT), None)
            (main or self._create(DEFAULT_ENVIRONMENT, web_suffix="")).default = True

    def _known(self, name: str) -> bool:
        return any(e.name == name if name else e.default for e in self._state.environments.values())

    def _create(self, name: str, *, web_suffix: str) -> Environment:
        check_environment_name(name)
        if len(self._state.environments) >= MAX_ENVIRONMENTS:
            raise failed_precondition(f"A workspace has up to {MAX_ENVIRONMENTS:,} Environments")
        environment = Environment(new_id("en"), name, self._clock.time(), web_suffix)
        self._state.environments[environment.environment_id] = environment
        return environment

    async def EnvironmentGetOrCreate(
        self, request: api_pb2.EnvironmentGetOrCreateRequest, _: Caller
    ) -> api_pb2.EnvironmentGetOrCreateResponse:
        name = request.deployment_name
        if request.object_creation_type == api_pb2.OBJECT_CREATION_TYPE_CREATE_IF_MISSING and not self._known(name):
            found = self._create(name, web_suffix=self._usual_suffix(name))
        else:
            found = environment_named(self._state, name)
        return api_pb2.EnvironmentGetOrCreateResponse(
            environment_id=found.environment_id,
            metadata=api_pb2.EnvironmentMetadata(
                name=found.name,
                settings=api_pb2.EnvironmentSettings(
                    image_builder_version=IMAGE_BUILDER_VERSION, webhook_suffix=found.web_suffix
                ),
            ),
        )

    async def EnvironmentList(self, _request: Empty, _: Caller) -> api_pb2.EnvironmentListResponse:
        return api_pb2.EnvironmentListResponse(items=[_listed(e) for e in self._state.environments.values()])

    async def EnvironmentCreate(self, request: api_pb2.EnvironmentCreateRequest, _: Caller) -> Empty:
        if request.is_managed or request.default_member_role or request.default_member_role_str:
            raise unimplemented("restricted Environments: there is one user here")
        if request.environment_type != api_pb2.ENVIRONMENT_TYPE_UNSPECIFIED:
            raise unimplemented("public Environments")
        check_environment_name(request.name)
        if self._known(request.name):
            raise exists(f"Environment '{request.name}' already exists")
        self._create(request.name, web_suffix=self._usual_suffix(request.name))
        return Empty()

    async def EnvironmentUpdate(
        self, request: api_pb2.EnvironmentUpdateRequest, _: Caller
    ) -> api_pb2.EnvironmentListItem:
        """A new name counts at once, a new suffix for what is deployed from now on."""
        environment = environment_named(self._state, request.current_name)
        for field, _value in request.ListFields():
            if field.name not in ("current_name", "name", "web_suffix", "image_builder_version"):
                raise unimplemented(f"EnvironmentUpdate of {field.name}")
        if has_field(request, "image_builder_version") and request.HasField("image_builder_version"):
            check_builder(request.image_builder_version)
        name = request.name.value if request.HasField("name") else environment.name
        suffix = request.web_suffix.value if request.HasField("web_suffix") else environment.web_suffix
        if name != environment.name:
            check_environment_name(name)
            if self._known(name):
                raise exists(f"Environment '{name}' already exists")
        if suffix != environment.web_suffix:
            self._check_suffix(suffix)
        old, environment.name, environment.web_suffix = environment.name, name, suffix
        for app in self._state.apps.values():
            if app.environment == old:
                app.web_suffix = suffix
        if name != old:
            for inhabitants in self._inhabitants:
                inhabitants.rename_environment(old, name)
        return _listed(environment)

    async def EnvironmentDelete(self, request: api_pb2.EnvironmentDeleteRequest, _: Caller) -> Empty:
        """With everything in it; nothing can be made there any more once this has begun."""
        environment = environment_named(self._state, request.name)
        if environment.default:
            raise failed_precondition(f"Environment '{environment.name}' is the workspace's default")
        del self._state.environments[environment.environment_id]
        for inhabitants in self._inhabitants:
            await inhabitants.remove_environment(environment.name)
        return Empty()

    async def EnvironmentGetRoles(
        self, request: api_pb2.EnvironmentGetRolesRequest, _: Caller
    ) -> api_pb2.EnvironmentGetRolesResponse:
        environment = self._state.environments.get(request.environment_id)
        if environment is None:
            raise not_found(f"No Environment with ID {request.environment_id}")
        response = api_pb2.EnvironmentGetRolesResponse(name=environment.name, created_at=environment.created_at)
        response.principal_roles.add(user_id=USER_ID, user_name=WORKSPACE, role_str="contributor")
        return response

    def _usual_suffix(self, name: str) -> str:
        """Its name as a part of a host's name, made another where that is taken."""
        suffix = re.sub(r"[^a-z0-9]+", "-", name.lower())[:MAX_SUFFIX].strip("-")
        return suffix if suffix not in self._suffixes() else f"{suffix}-{new_id('en')[3:9].lower()}"

    def _check_suffix(self, suffix: str) -> None:
        if not _SUFFIX.fullmatch(suffix) or len(suffix) > MAX_SUFFIX:
            raise invalid(f"Invalid web suffix {suffix!r}: up to {MAX_SUFFIX} lower-case letters, digits and dashes")
        if suffix in self._suffixes():
            raise exists(f"The web suffix {suffix!r} is another Environment's")

    def _suffixes(self) -> set[str]:
        return {environment.web_suffix for environment in self._state.environments.values()}


def check_builder(version: str) -> None:
    """Refuse a version of the image builder that is not this emulator's; none is the workspace's."""
    if version not in ("", IMAGE_BUILDER_VERSION):
        raise invalid(f"The emulator has the image builder version {IMAGE_BUILDER_VERSION} alone, not {version!r}")


def _listed(environment: Environment) -> api_pb2.EnvironmentListItem:
    return api_pb2.EnvironmentListItem(
        name=environment.name,
        webhook_suffix=environment.web_suffix,
        environment_id=environment.environment_id,
        created_at=environment.created_at,
        default=environment.default,
    )
