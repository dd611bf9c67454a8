"""Why apps end, in the words of Modal's own logs; and apps that outlive their client."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modal_proto import api_pb2

from emulator.protocol.entries import output
from emulator.scheduler.tasks import Tasks

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from emulator.scheduler.scheduler import Scheduler
    from emulator.state import App

CLIENT_GONE = (
    "local client disconnected. Use `modal run --detach` to keep apps running even if your local client disconnects."
)
CLIENT_GONE_DETACHED = "local client disconnected."
ENVIRONMENT_DELETED = "Stopping app - its environment was deleted."


def disconnected(request: api_pb2.AppClientDisconnectRequest) -> str:
    """What the log says of an app that its client has left."""
    said = f": {request.exception}" if request.exception else ""
    reasons = {
        api_pb2.APP_DISCONNECT_REASON_ENTRYPOINT_COMPLETED: "local entrypoint completed.",
        api_pb2.APP_DISCONNECT_REASON_KEYBOARD_INTERRUPT: "keyboard interrupt received.",
        api_pb2.APP_DISCONNECT_REASON_LOCAL_EXCEPTION: f"uncaught exception raised locally{said}.",
        api_pb2.APP_DISCONNECT_REASON_REMOTE_EXCEPTION: f"uncaught exception raised in remote container{said}.",
    }
    return reasons.get(request.reason, "")


def stopped_by_user(source: api_pb2.AppStopSource.ValueType) -> str:
    places = {
        api_pb2.APP_STOP_SOURCE_CLI: "CLI",
        api_pb2.APP_STOP_SOURCE_PYTHON_CLIENT: "Python client",
        api_pb2.APP_STOP_SOURCE_WEB: "dashboard",
    }
    return f"user stopped from {places[source]}." if source in places else ""


def system_output(why: str, now: float) -> api_pb2.TaskLogsBatch:
    """The line with which an app's log ends."""
    return output(f"Stopping app - {why}\n", api_pb2.FILE_DESCRIPTOR_INFO, now=now)


class Detached:
    """Apps of `modal run --detach` whose client has left: each ends when it has nothing more to do."""

    def __init__(
        self, scheduler: Scheduler, stop: Callable[[App, str], Awaitable[None]], say: Callable[[str], None]
    ) -> None:
        self._scheduler = scheduler
        self._stop = stop
        self._tasks = Tasks(say)

    async def left(self, app: App, why: str) -> None:
        """Its client has left. Returns when the app has ended, or goes on without it."""
        if self._scheduler.busy(app.app_id):
            self._tasks.spawn(self._see_to_its_end(app, why))
        else:
            await self._stop(app, why)

    async def _see_to_its_end(self, app: App, why: str) -> None:
        while app.live and self._scheduler.busy(app.app_id):
            await self._scheduler.changed.wait()
        await self._stop(app, why)

    async def close(self) -> None:
        await self._tasks.close()
