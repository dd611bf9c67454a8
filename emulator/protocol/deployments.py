"""Deploys: published, skipped when nothing changed, rolled back, rolled over, staged and promoted; their history."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modal_proto import api_pb2

from emulator.protocol.dispatch import exists, failed_precondition, not_found
from emulator.protocol.lookup import app_of, function_of
from emulator.protocol.publishing import VERSIONS_KEPT
from emulator.state import WORKSPACE

if TYPE_CHECKING:
    from collections.abc import Callable

    from grpclib import GRPCError

    from emulator.clock import Clock
    from emulator.protocol.dispatch import Caller
    from emulator.protocol.publishing import Publisher
    from emulator.state import App, AppVersion, State

PREVIOUS = -1
"""The version that a rollback asks for when it is told none."""

History = api_pb2.AppDeploymentHistory


class DeploymentHandlers:
    def __init__(self, state: State, clock: Clock, publisher: Publisher, page_url: Callable[[str], str]) -> None:
        self._state = state
        self._clock = clock
        self._publisher = publisher
        self._page_url = page_url

    async def AppPublish(self, request: api_pb2.AppPublishRequest, caller: Caller) -> api_pb2.AppPublishResponse:
        app = self._live(request.app_id)
        async with app.publishing:
            for function_id in {*request.function_ids.values(), *request.definition_ids}:
                function_of(self._state, function_id)
            self._publisher.choose(request.definition_ids)
            deployed_at = await self._publish(self._live(request.app_id), request, caller)
        return api_pb2.AppPublishResponse(url=self._url(app), deployed_at=deployed_at)

    async def _publish(self, app: App, request: api_pb2.AppPublishRequest, caller: Caller) -> float:
        function_ids, class_ids = dict(request.function_ids), dict(request.class_ids)
        if request.app_state != api_pb2.APP_STATE_DEPLOYED:
            app.state = request.app_state or app.state  # a reload by `modal serve` names none
            app.tags.update(request.tags)
            now = self._clock.time()  # before any container of it starts: the client ends those that are older
            await self._publisher.put_in_force(app, function_ids, class_ids)
            return now
        self._check_name(app, request.name)
        version = self._publisher.version_of(app, function_ids, class_ids)
        entry = History(
            tag=request.deployment_tag,
            commit_info=request.commit_info,
            deployment_type=api_pb2.DEPLOYMENT_TYPE_STANDARD,
        )
        if request.staged:
            return await self._publish_staged(app, version, entry, caller)
        if self._unchanged(app, version, request):
            await self._publisher.drop_staged(app)
            return 0.0  # what the client calls "Deployment skipped: no changes detected!"
        app.state = api_pb2.APP_STATE_DEPLOYED
        app.name = app.description = request.name or app.description
        app.tags = dict(request.tags)
        return await self._put_in_force(app, version, entry, caller)

    def _check_name(self, app: App, name: str) -> None:
        other = self._state.deployed(name, app.environment)
        if other is not None and other is not app:
            raise exists(f"App '{name}' has been deployed meanwhile, as {other.app_id}: deploy again to replace it")

    async def _publish_staged(self, app: App, version: AppVersion, entry: History, caller: Caller) -> float:
        if app.state != api_pb2.APP_STATE_DEPLOYED:
            raise failed_precondition(
                "Only an App that is deployed can have a staged deployment: deploy it without --staged first"
            )
        entry.deployment_type = api_pb2.DEPLOYMENT_TYPE_STAGED
        number = self._note(app, entry, caller)
        self._publisher.keep(app, number, version)
        await self._publisher.drop_staged(app)
        return entry.deployed_at

    @staticmethod
    def _unchanged(app: App, version: AppVersion, request: api_pb2.AppPublishRequest) -> bool:
        if app.state != api_pb2.APP_STATE_DEPLOYED or app.versions.get(app.version) != version:
            return False
        tags = {entry.tag for entry in app.history if entry.version == app.version}
        return dict(request.tags) == app.tags and (not request.deployment_tag or request.deployment_tag in tags)

    async def _put_in_force(self, app: App, version: AppVersion, entry: History, caller: Caller) -> float:
        app.version = self._note(app, entry, caller)
        app.deployed_at = entry.deployed_at
        self._publisher.keep(app, app.version, version)
        await self._publisher.put_in_force(app, dict(version.function_ids), dict(version.class_ids))
        return entry.deployed_at

    def _note(self, app: App, entry: History, caller: Caller) -> int:
        """Complete a line of the app's history and append it; returns the version's number."""
        entry.app_id, entry.version = app.app_id, len(app.history) + 1
        entry.client_version, entry.deployed_by = caller.client_version, WORKSPACE
        entry.deployed_at = self._clock.time()
        app.history.append(entry)
        return entry.version

    # Going back, and round

    async def AppRollback(self, request: api_pb2.AppRollbackRequest, caller: Caller) -> api_pb2.AppRollbackResponse:
        app = self._live(request.app_id)
        async with app.publishing:
            number = self._previous(app) if request.version == PREVIOUS else request.version
            deployed_at = await self._redeploy(app, number, api_pb2.DEPLOYMENT_TYPE_ROLLBACK, caller)
        return api_pb2.AppRollbackResponse(url=self._url(app), deployed_at=deployed_at)

    async def AppRollover(self, request: api_pb2.AppRolloverRequest, caller: Caller) -> api_pb2.AppRolloverResponse:
        app = self._live(request.app_id)
        async with app.publishing:
            deployed_at = await self._redeploy(app, app.version, api_pb2.DEPLOYMENT_TYPE_ROLLOVER, caller)
        return api_pb2.AppRolloverResponse(url=self._url(app), deployed_at=deployed_at)

    async def AppPromote(self, request: api_pb2.AppPromoteRequest, caller: Caller) -> api_pb2.AppPromoteResponse:
        app = self._live(request.app_id)
        async with app.publishing:
            kind = next((entry.deployment_type for entry in app.history if entry.version == request.version), None)
            if kind is not None and kind != api_pb2.DEPLOYMENT_TYPE_STAGED:
                raise failed_precondition(
                    f"Version v{request.version} of App '{app.name}' is not a staged one: use a rollback"
                )
            deployed_at = await self._redeploy(app, request.version, api_pb2.DEPLOYMENT_TYPE_PROMOTION, caller)
        return api_pb2.AppPromoteResponse(url=self._url(app), deployed_at=deployed_at)

    async def _redeploy(self, app: App, number: int, kind: api_pb2.DeploymentType.ValueType, caller: Caller) -> float:
        if app.state != api_pb2.APP_STATE_DEPLOYED:
            raise failed_precondition(f"App {app.app_id} is not deployed")
        version = app.versions.get(number)
        if version is None:
            raise self._no_version(app, number)
        entry = History(deployment_type=kind)
        if kind != api_pb2.DEPLOYMENT_TYPE_ROLLOVER:
            entry.rollback_version = number
        await self._publisher.drop_staged(app)
        await self._publisher.bring_back(app, version)
        return await self._put_in_force(app, version, entry, caller)

    @staticmethod
    def _previous(app: App) -> int:
        before = [
            entry.version
            for entry in app.history
            if entry.version < app.version and entry.deployment_type != api_pb2.DEPLOYMENT_TYPE_STAGED
        ]
        if not before:
            raise failed_precondition(f"App '{app.name}' has no previous version to roll back to")
        return before[-1]

    @staticmethod
    def _no_version(app: App, number: int) -> GRPCError:
        if 0 < number <= len(app.history):
            return failed_precondition(
                f"Version v{number} is not kept any more: this emulator keeps the last {VERSIONS_KEPT}"
            )
        return not_found(f"App '{app.name}' has no version v{number}")

    async def AppDeploymentHistory(
        self, request: api_pb2.AppDeploymentHistoryRequest, _: Caller
    ) -> api_pb2.AppDeploymentHistoryResponse:
        app = app_of(self._state, request.app_id)
        entries = []
        for noted in reversed(app.history):  # newest first: the client shows the first one in bold
            entry = History()
            entry.CopyFrom(noted)
            entry.rollback_allowed = noted.version in app.versions
            entries.append(entry)
        return api_pb2.AppDeploymentHistoryResponse(
            app_deployment_histories=entries, production_app_version=app.version
        )

    def _live(self, app_id: str) -> App:
        app = app_of(self._state, app_id)
        if not app.live:
            raise failed_precondition(f"App {app_id} is stopped")
        return app

    def _url(self, app: App) -> str:
        return self._page_url(app.app_id)
