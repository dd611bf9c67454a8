"""The workspace, which has one user: whoever has the emulator's token."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.empty_pb2 import Empty
from modal_proto import api_pb2

from emulator.protocol.environments import check_builder
from emulator.protocol.named import environment_named
from emulator.state import IMAGE_BUILDER_VERSION, USER_ID, WORKSPACE, WORKSPACE_ID

if TYPE_CHECKING:
    from emulator.clock import Clock
    from emulator.protocol.dispatch import Caller, Token
    from emulator.state import State


class WorkspaceHandlers:
    def __init__(self, state: State, clock: Clock, token: Token) -> None:
        self._state = state
        self._token = token
        self._since = clock.time()

    async def ClientHello(self, _request: Empty, _: Caller) -> api_pb2.ClientHelloResponse:
        return api_pb2.ClientHelloResponse(image_builder_version=IMAGE_BUILDER_VERSION)

    async def TokenInfoGet(self, _request: api_pb2.TokenInfoGetRequest, _: Caller) -> api_pb2.TokenInfoGetResponse:
        response = api_pb2.TokenInfoGetResponse(
            token_id=self._token.token_id,
            token_name="emulator",  # noqa: S106  (its name is no secret)
            workspace_id=WORKSPACE_ID,
            workspace_name=WORKSPACE,
            user_identity=api_pb2.UserIdentity(user_id=USER_ID, username=WORKSPACE),
        )
        response.created_at.FromNanoseconds(int(self._since * 1e9))
        return response

    async def WorkspaceNameLookup(self, _request: Empty, _: Caller) -> api_pb2.WorkspaceNameLookupResponse:
        return api_pb2.WorkspaceNameLookupResponse(workspace_name=WORKSPACE, username=WORKSPACE)

    async def WorkspaceMembersList(self, _request: Empty, _: Caller) -> api_pb2.WorkspaceMembersListResponse:
        response = api_pb2.WorkspaceMembersListResponse()
        response.members.add(
            member_displayname=WORKSPACE,
            member_role=api_pb2.MEMBER_ROLE_OWNER,
            user_id=USER_ID,
            email=f"{WORKSPACE}@localhost",
            joined_at=self._since,
            last_active_at=self._since,
        )
        return response

    async def WorkspaceSettings(self, _request: Empty, _: Caller) -> api_pb2.WorkspaceSettingsResponse:
        return api_pb2.WorkspaceSettingsResponse(
            default_environment_name=environment_named(self._state, "").name,
            image_builder_version=IMAGE_BUILDER_VERSION,
        )

    async def WorkspaceSetDefaultEnvironment(
        self, request: api_pb2.WorkspaceSetDefaultEnvironmentRequest, _: Caller
    ) -> Empty:
        chosen = environment_named(self._state, request.environment_name)
        for environment in self._state.environments.values():
            environment.default = environment is chosen
        return Empty()

    async def WorkspaceSetImageBuilderVersion(
        self, request: api_pb2.WorkspaceSetImageBuilderVersionRequest, _: Caller
    ) -> api_pb2.WorkspaceSetImageBuilderVersionResponse:
        check_builder(request.new_image_builder_version)
        return api_pb2.WorkspaceSetImageBuilderVersionResponse(image_builder_version=IMAGE_BUILDER_VERSION)
