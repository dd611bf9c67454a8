"""Apps: created, found by name, listed, left by their client, stopped."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from google.protobuf.empty_pb2 import Empty
from modal_proto import api_pb2

from emulator.ids import new_id
from emulator.protocol.dispatch import not_found
from emulator.protocol.endings import (
    CLIENT_GONE,
    CLIENT_GONE_DETACHED,
    ENVIRONMENT_DELETED,
    Detached,
    disconnected,
    stopped_by_user,
    system_output,
)
from emulator.protocol.lookup import app_of
from emulator.protocol.metadata import app_layout, app_metadata, lifecycle
from emulator.protocol.named import environment_named
from emulator.state import WORKSPACE, App

if TYPE_CHECKING:
    from collections.abc import Callable, Set

    from emulator.clock import Clock
    from emulator.protocol.addresses import Front
    from emulator.protocol.dispatch import Caller
    from emulator.protocol.publishing import Publisher
    from emulator.sandboxes.sandboxes import Sandboxes
    from emulator.scheduler.scheduler import Scheduler
    from emulator.state import State

HEARTBEAT_TIMEOUT = 60.0
"""Seconds without a sign of the client after which an ephemeral app is stopped; it sends one every 15."""


STOPPED_APPS_KEPT = 100


class AppHandlers:
    def __init__(
        self,
        state: State,
        clock: Clock,
        scheduler: Scheduler,
        sandboxes: Sandboxes,
        front: Front,
        publisher: Publisher,
        page_url: Callable[[str], str],
        say: Callable[[str], None],
    ) -> None:
        self._say = say
        self._state = state
        self._clock = clock
        self._scheduler = scheduler
        self._sandboxes = sandboxes
        self._front = front
        self._publisher = publisher
        self._page_url = page_url
        self._detached = Detached(scheduler, self._stop_quietly, say)

    async def AppCreate(self, request: api_pb2.AppCreateRequest, _: Caller) -> api_pb2.AppCreateResponse:
        environment = environment_named(self._state, request.environment_name)
        app = App(
            new_id("ap"),
            request.description,
            environment.name,
            request.app_state or api_pb2.APP_STATE_INITIALIZING,
            created_at=self._clock.time(),
            last_heartbeat=self._clock.outside.monotonic(),
            tags=dict(request.tags),
            web_suffix=environment.web_suffix,
        )
        self._state.apps[app.app_id] = app
        url = self._page_url(app.app_id)
        return api_pb2.AppCreateResponse(app_id=app.app_id, app_page_url=url, app_logs_url=f"{url}/logs")

    async def AppGetByDeploymentName(
        self, request: api_pb2.AppGetByDeploymentNameRequest, _: Caller
    ) -> api_pb2.AppGetByDeploymentNameResponse:
        environment = environment_named(self._state, request.environment_name).name
        response = api_pb2.AppGetByDeploymentNameResponse(environment_name=environment)
        if (app := self._state.deployed(request.name, environment)) is not None:
            response.app_id = app.app_id
            response.lifecycle.CopyFrom(lifecycle(app))
        elif previous := self._previous(request.name, environment):
            response.previous_app_id = previous.app_id
            response.lifecycle.CopyFrom(lifecycle(previous))
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
        response = api_pb2.AppGetOrCreateResponse(app_id=app.app_id)
        if "handle_metadata" in response.DESCRIPTOR.fields_by_name:
            response.handle_metadata.CopyFrom(app_metadata(self._state, app))
        return response

    async def AppGetLayout(self, request: api_pb2.AppGetLayoutRequest, _: Caller) -> api_pb2.AppGetLayoutResponse:
        return api_pb2.AppGetLayoutResponse(app_layout=app_layout(self._state, app_of(self._state, request.app_id)))

    async def AppGetLifecycle(
        self, request: api_pb2.AppGetLifecycleRequest, _: Caller
    ) -> api_pb2.AppGetLifecycleResponse:
        return api_pb2.AppGetLifecycleResponse(lifecycle=lifecycle(app_of(self._state, request.app_id)))

    async def AppHeartbeat(self, request: api_pb2.AppHeartbeatRequest, _: Caller) -> Empty:
        app_of(self._state, request.app_id).last_heartbeat = self._clock.outside.monotonic()
        return Empty()

    async def AppClientDisconnect(self, request: api_pb2.AppClientDisconnectRequest, _: Caller) -> Empty:
        app = app_of(self._state, request.app_id)
        if app.state == api_pb2.APP_STATE_DETACHED:
            app.state = api_pb2.APP_STATE_DETACHED_DISCONNECTED
            await self._detached.left(app, disconnected(request))
        elif app.state in (api_pb2.APP_STATE_EPHEMERAL, api_pb2.APP_STATE_INITIALIZING):
            await self.stop(app, disconnected(request))
        elif request.reason == api_pb2.APP_DISCONNECT_REASON_DEPLOYMENT_EXCEPTION:
            await self._publisher.drop_staged(app)
        return Empty()

    async def AppStop(self, request: api_pb2.AppStopRequest, _: Caller) -> Empty:
        app = app_of(self._state, request.app_id)
        await self.stop(app, stopped_by_user(request.source), by=WORKSPACE)
        return Empty()

    async def stop(self, app: App, why: str = "", *, by: str = "") -> None:
        """End an app: its addresses, its containers, its log, in which `why` is told. Harmless when it has ended."""
        async with app.publishing:
            if not app.live:
                return
            app.state, app.stopped_by = api_pb2.APP_STATE_STOPPING, by
            if why:
                app.log.append(system_output(why, self._clock.time()))
            await self._end(app)

    async def _end(self, app: App) -> None:
        records = [r for r in self._state.functions.values() if r.app_id == app.app_id]
        for record in records:
            await self._front.withdraw(record.function_id)
        await self._sandboxes.stop_app(app.app_id)
        await self._scheduler.stop_app(app)
        self._scheduler.forget_calls([record.function_id for record in records])
        for record in records:
            self._state.functions.pop(record.function_id, None)
        for secret in [secret for secret in self._state.secrets.values() if secret.app_id == app.app_id]:
            del self._state.secrets[secret.secret_id]
        app.function_ids, app.class_ids = {}, {}
        app.versions.clear()
        app.state = api_pb2.APP_STATE_STOPPED
        app.stopped_at = self._clock.time()
        app.log.finish()
        self._forget_stopped()

    def _forget_stopped(self) -> None:
        """Keep the last of the apps that have stopped, for lists and logs."""
        stopped = [app for app in self._state.apps.values() if app.state == api_pb2.APP_STATE_STOPPED]
        stopped.sort(key=lambda app: app.stopped_at)
        self._forget({app.app_id for app in stopped[:-STOPPED_APPS_KEPT]})

    def _forget(self, app_ids: Set[str]) -> None:
        for app_id in app_ids:
            del self._state.apps[app_id]
        for record in [record for record in self._state.classes.values() if record.app_id in app_ids]:
            del self._state.classes[record.class_id]

    def rename_environment(self, old: str, new: str) -> None:
        """What was in the one environment is in the other."""
        for app in self._state.apps.values():
            if app.environment == old:
                app.environment = new

    async def remove_environment(self, name: str) -> None:
        """Every app in there is stopped and forgotten."""
        apps = [app for app in self._state.apps.values() if app.environment == name]
        for app in apps:
            await self.stop(app, ENVIRONMENT_DELETED, by=WORKSPACE)
        self._forget({app.app_id for app in apps} & self._state.apps.keys())

    async def watch_heartbeats(self) -> None:
        """Stop ephemeral apps whose client has gone without a word. Runs until cancelled."""
        outside = self._clock.outside
        while True:
            await outside.sleep(HEARTBEAT_TIMEOUT / 4)
            limit = outside.monotonic() - HEARTBEAT_TIMEOUT
            for app in list(self._state.apps.values()):
                if app.last_heartbeat >= limit:
                    continue
                # One that is still being deployed has said as little: its client may have been killed half-way.
                if app.state in (api_pb2.APP_STATE_EPHEMERAL, api_pb2.APP_STATE_INITIALIZING):
                    await self._stop_quietly(app, CLIENT_GONE)
                elif app.state == api_pb2.APP_STATE_DETACHED:
                    app.state = api_pb2.APP_STATE_DETACHED_DISCONNECTED
                    await self._detached.left(app, CLIENT_GONE_DETACHED)

    async def _stop_quietly(self, app: App, why: str) -> None:
        try:
            await self.stop(app, why)
        except Exception as error:  # one app's trouble is not to keep the others from being watched
            self._say(f"{app.name or app.description} could not be stopped: {error!r}")

    async def close(self) -> None:
        """Watch no app any more."""
        await self._detached.close()

    async def AppList(self, request: api_pb2.AppListRequest, _: Caller) -> api_pb2.AppListResponse:
        environment = environment_named(self._state, request.environment_name).name
        apps = [app for app in self._state.apps.values() if app.environment == environment]
        return api_pb2.AppListResponse(apps=[self._listed(app) for app in apps])

    def _listed(self, app: App) -> api_pb2.AppListResponse.AppListItem:
        item = api_pb2.AppListResponse.AppListItem(
            app_id=app.app_id,
            description=app.description,
            name=app.name,
            state=app.state,
            created_at=app.created_at,
            stopped_at=app.stopped_at,
            n_running_tasks=sum(
                1 for _ in chain(self._scheduler.slots(app.app_id), self._sandboxes.running(app.app_id))
            ),
        )
        if "metadata" in item.DESCRIPTOR.fields_by_name:
            item.metadata.CopyFrom(app_metadata(self._state, app))
        return item

    async def TaskList(self, request: api_pb2.TaskListRequest, _: Caller) -> api_pb2.TaskListResponse:
        environment = environment_named(self._state, request.environment_name).name
        slots = ((self._state.apps[pool.record.app_id], slot) for pool, slot in self._scheduler.slots())
        running = [(app, slot.task_id, slot.created_at, slot.booted_at) for app, slot in slots] + [
            (self._state.apps[one.app_id], one.task_id, one.created_at, one.started_at)
            for one in self._sandboxes.running()
        ]
        return api_pb2.TaskListResponse(
            tasks=[
                api_pb2.TaskStats(
                    task_id=task_id,
                    app_id=app.app_id,
                    app_description=app.description,
                    started_at=started_at,
                    enqueued_at=created_at,
                )
                for app, task_id, created_at, started_at in running
                if (request.app_id == app.app_id if request.app_id else app.environment == environment)
            ]
        )
