"""Apps: created, published, listed, stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.empty_pb2 import Empty
from modal_proto import api_pb2

from emulator.ids import new_id
from emulator.protocol.dispatch import not_found
from emulator.protocol.metadata import app_layout
from emulator.protocol.named import environment_named
from emulator.protocol.options import rebind
from emulator.state import DEFAULT_ENVIRONMENT, App

if TYPE_CHECKING:
    from collections.abc import Callable

    from emulator.clock import Clock
    from emulator.protocol.addresses import Front
    from emulator.protocol.dispatch import Caller
    from emulator.scheduler.scheduler import Scheduler
    from emulator.state import FunctionRecord, State

HEARTBEAT_TIMEOUT = 60.0
"""Seconds without a sign of the client after which an ephemeral app is stopped; it sends one every 15."""


STOPPED_APPS_KEPT = 100


class AppHandlers:
    def __init__(
        self,
        state: State,
        clock: Clock,
        scheduler: Scheduler,
        front: Front,
        page_url: str,
        say: Callable[[str], None],
    ) -> None:
        self._say = say
        self._state = state
        self._clock = clock
        self._scheduler = scheduler
        self._front = front
        self._page_url = page_url

    async def AppCreate(self, request: api_pb2.AppCreateRequest, _: Caller) -> api_pb2.AppCreateResponse:
        app = App(
            new_id("ap"),
            request.description,
            environment_named(self._state, request.environment_name).name,
            request.app_state or api_pb2.APP_STATE_INITIALIZING,
            created_at=self._clock.time(),
            last_heartbeat=self._clock.monotonic(),
        )
        self._state.apps[app.app_id] = app
        url = f"{self._page_url}/apps/{app.app_id}"
        return api_pb2.AppCreateResponse(app_id=app.app_id, app_page_url=url, app_logs_url=f"{url}/logs")

    async def AppGetByDeploymentName(
        self, request: api_pb2.AppGetByDeploymentNameRequest, _: Caller
    ) -> api_pb2.AppGetByDeploymentNameResponse:
        environment = request.environment_name or DEFAULT_ENVIRONMENT
        response = api_pb2.AppGetByDeploymentNameResponse(environment_name=environment)
        if (app := self._state.deployed(request.name, environment)) is not None:
            response.app_id = app.app_id
            response.lifecycle.CopyFrom(_lifecycle(app))
        elif previous := self._previous(request.name, environment):
            response.previous_app_id = previous.app_id
            response.lifecycle.CopyFrom(_lifecycle(previous))
        return response

    def _previous(self, name: str, environment: str) -> App | None:
        stopped = [a for a in self._state.apps.values() if (a.name, a.environment) == (name, environment)]
        return max(stopped, key=lambda app: app.stopped_at, default=None)

    async def AppGetOrCreate(
        self, request: api_pb2.AppGetOrCreateRequest, caller: Caller
    ) -> api_pb2.AppGetOrCreateResponse:
        environment = environment_named(self._state, request.environment_name).name
        app = self._state.deployed(request.app_name, environment)
        if app is None:
            if request.object_creation_type != api_pb2.OBJECT_CREATION_TYPE_CREATE_IF_MISSING:
                raise not_found(f"App '{request.app_name}' not found in environment '{environment}'")
            created = await self.AppCreate(
                api_pb2.AppCreateRequest(
                    description=request.app_name, environment_name=environment, app_state=api_pb2.APP_STATE_DEPLOYED
                ),
                caller,
            )
            app = self._state.apps[created.app_id]
            app.name = request.app_name
        return api_pb2.AppGetOrCreateResponse(
            app_id=app.app_id,
            handle_metadata=api_pb2.AppHandleMetadata(
                description=app.description, app_id=app.app_id, environment_name=environment, lifecycle=_lifecycle(app)
            ),
        )

    async def AppGetLayout(self, request: api_pb2.AppGetLayoutRequest, _: Caller) -> api_pb2.AppGetLayoutResponse:
        return api_pb2.AppGetLayoutResponse(app_layout=app_layout(self._state, self._get(request.app_id)))

    async def AppGetLifecycle(
        self, request: api_pb2.AppGetLifecycleRequest, _: Caller
    ) -> api_pb2.AppGetLifecycleResponse:
        return api_pb2.AppGetLifecycleResponse(lifecycle=_lifecycle(self._get(request.app_id)))

    async def AppPublish(self, request: api_pb2.AppPublishRequest, _: Caller) -> api_pb2.AppPublishResponse:
        app = self._get(request.app_id)
        for function_id in request.function_ids.values():
            if function_id not in self._state.functions:
                raise not_found(f"No Function with ID {function_id}")
        removed = set(app.function_ids.values()) - set(request.function_ids.values())
        app.function_ids, app.class_ids = dict(request.function_ids), dict(request.class_ids)
        app.state = request.app_state or app.state  # a reload by `modal serve` names none
        now = self._clock.time()
        if request.app_state == api_pb2.APP_STATE_DEPLOYED:
            app.name = request.name or app.description
            app.description = app.name
            app.deployed_at = now
            app.version += 1
            app.history.append(
                api_pb2.AppDeploymentHistory(
                    app_id=app.app_id,
                    version=app.version,
                    client_version=request.client_version,
                    deployed_at=now,
                    tag=request.deployment_tag,
                    commit_info=request.commit_info,
                )
            )
        await self._put_in_force(app)
        for function_id in removed:
            await self._remove(function_id)
        await self._drop_staged(app)
        return api_pb2.AppPublishResponse(url=f"{self._page_url}/apps/{app.app_id}", deployed_at=now)

    async def _put_in_force(self, app: App) -> None:
        records = [self._state.functions[function_id] for function_id in app.function_ids.values()]
        # Addresses first: a container that starts is told of all of them.
        for record in records:
            if (staged := record.staged) is not None:
                record.staged = None
                record.definition, record.data, record.urls = staged.definition, staged.data, dict(staged.urls)
                record.version += 1
                await self._front.publish(record, staged.addresses)
        for record in records:
            self._scheduler.published(record)
            for bound in self._bound_to(record.function_id):
                rebind(bound, record)
                self._scheduler.published(bound)
        if app.state == api_pb2.APP_STATE_DEPLOYED:
            self._scheduler.timers.follow(records)

    def _bound_to(self, function_id: str) -> list[FunctionRecord]:
        """Functions made from that one by parameters or options, and those made from these."""
        direct = [record for record in self._state.functions.values() if record.base_function_id == function_id]
        return direct + [further for record in direct for further in self._bound_to(record.function_id)]

    async def _drop_staged(self, app: App) -> None:
        """Forget what a deploy has made and not published."""
        for record in [r for r in self._state.functions.values() if r.app_id == app.app_id and r.staged is not None]:
            record.staged = None
            await self._front.give_up(record.function_id)
            if not record.version:
                await self._remove(record.function_id)

    async def _remove(self, function_id: str) -> None:
        for record in [self._state.functions[function_id], *self._bound_to(function_id)]:
            del self._state.functions[record.function_id]
            await self._front.withdraw(record.function_id)
            await self._scheduler.remove(record)
            self._scheduler.forget_calls([record.function_id])

    async def AppHeartbeat(self, request: api_pb2.AppHeartbeatRequest, _: Caller) -> Empty:
        self._get(request.app_id).last_heartbeat = self._clock.monotonic()
        return Empty()

    async def AppClientDisconnect(self, request: api_pb2.AppClientDisconnectRequest, _: Caller) -> Empty:
        app = self._get(request.app_id)
        if app.state == api_pb2.APP_STATE_DETACHED:
            app.state = api_pb2.APP_STATE_DETACHED_DISCONNECTED
        elif app.state in (api_pb2.APP_STATE_EPHEMERAL, api_pb2.APP_STATE_INITIALIZING):
            await self.stop(app)
        elif request.reason == api_pb2.APP_DISCONNECT_REASON_DEPLOYMENT_EXCEPTION:
            await self._drop_staged(app)
        return Empty()

    async def AppStop(self, request: api_pb2.AppStopRequest, _: Caller) -> Empty:
        app = self._get(request.app_id)
        app.stopped_by = "local"
        await self.stop(app)
        return Empty()

    async def stop(self, app: App) -> None:
        """End an app: its addresses, its containers, its log. Harmless when it has ended."""
        if not app.live:
            return
        app.state = api_pb2.APP_STATE_STOPPING
        records = [r for r in self._state.functions.values() if r.app_id == app.app_id]
        for record in records:
            await self._front.withdraw(record.function_id)
        await self._scheduler.stop_app(app)
        self._scheduler.forget_calls([record.function_id for record in records])
        for record in records:
            self._state.functions.pop(record.function_id, None)
        app.function_ids, app.class_ids = {}, {}
        app.state = api_pb2.APP_STATE_STOPPED
        app.stopped_at = self._clock.time()
        app.log.finish()
        self._forget_stopped()

    def _forget_stopped(self) -> None:
        """Keep the last of the apps that have stopped, for lists and logs."""
        stopped = [app for app in self._state.apps.values() if app.state == api_pb2.APP_STATE_STOPPED]
        stopped.sort(key=lambda app: app.stopped_at)
        gone = {app.app_id for app in stopped[:-STOPPED_APPS_KEPT]}
        for app_id in gone:
            del self._state.apps[app_id]
        for record in [record for record in self._state.classes.values() if record.app_id in gone]:
            del self._state.classes[record.class_id]

    async def watch_heartbeats(self) -> None:
        """Stop ephemeral apps whose client has gone without a word. Runs until cancelled."""
        while True:
            await self._clock.sleep(HEARTBEAT_TIMEOUT / 4)
            limit = self._clock.monotonic() - HEARTBEAT_TIMEOUT
            for app in list(self._state.apps.values()):
                # One that is still being deployed has said as little: its client may have been killed half-way.
                waiting = app.state in (api_pb2.APP_STATE_EPHEMERAL, api_pb2.APP_STATE_INITIALIZING)
                if waiting and app.last_heartbeat < limit:
                    await self._stop_silent(app)

    async def _stop_silent(self, app: App) -> None:
        try:
            await self.stop(app)
        except Exception as error:  # one app's trouble is not to keep the others from being watched
            self._say(f"{app.name or app.description} could not be stopped: {error!r}")

    async def AppList(self, request: api_pb2.AppListRequest, _: Caller) -> api_pb2.AppListResponse:
        environment = request.environment_name or DEFAULT_ENVIRONMENT
        return api_pb2.AppListResponse(
            apps=[
                api_pb2.AppListResponse.AppListItem(
                    app_id=app.app_id,
                    description=app.description,
                    name=app.name,
                    state=app.state,
                    created_at=app.created_at,
                    stopped_at=app.stopped_at,
                    n_running_tasks=sum(1 for _ in self._scheduler.slots(app.app_id)),
                )
                for app in self._state.apps.values()
                if app.environment == environment
            ]
        )

    async def AppDeploymentHistory(
        self, request: api_pb2.AppDeploymentHistoryRequest, _: Caller
    ) -> api_pb2.AppDeploymentHistoryResponse:
        app = self._get(request.app_id)
        return api_pb2.AppDeploymentHistoryResponse(
            app_deployment_histories=app.history, production_app_version=app.version
        )

    async def TaskList(self, request: api_pb2.TaskListRequest, _: Caller) -> api_pb2.TaskListResponse:
        return api_pb2.TaskListResponse(
            tasks=[
                api_pb2.TaskStats(
                    task_id=slot.task_id,
                    app_id=pool.record.app_id,
                    app_description=self._state.apps[pool.record.app_id].description,
                    started_at=slot.created_at,
                    enqueued_at=slot.created_at,
                )
                for pool, slot in self._scheduler.slots(request.app_id or None)
            ]
        )

    def _get(self, app_id: str) -> App:
        if app_id not in self._state.apps:
            raise not_found(f"No App with ID {app_id}")
        return self._state.apps[app_id]


def _lifecycle(app: App) -> api_pb2.AppLifecycle:
    return api_pb2.AppLifecycle(
        app_state=app.state,
        created_at=app.created_at,
        deployed_at=app.deployed_at,
        version=app.version,
        stopped_at=app.stopped_at,
        stopped_by=app.stopped_by,
    )
