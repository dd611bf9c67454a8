"""What the web endpoint knows of the engines that are Modal Servers, and what it can have done with them.

Modal counts a Server's containers (`get_current_stats` of the Function behind it) and lists those that take requests.
Neither wakes one, and a container may ask for both. What is there and takes none boots, or leaves.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import modal

from functions.names import server_name
from web.errors import EngineUnreachable, NotSupported
from web.states import COLD, ModelState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.settings import Settings
    from web.clock import Clock

log = logging.getLogger(__name__)

SHORTEST_WINDOW = 2
"""Seconds of idleness after which a container leaves: the shortest that Modal takes."""
RELEASE_SECONDS = 120.0
"""How long an unloaded model keeps that window, if its containers are not gone before."""
LOOK_SECONDS = 1.0


def state_of(*, there: int, serving: int | None, running: int, waiting: int) -> ModelState:
    """What Modal's counts mean: containers that are there, those of them that take requests (None: not told),
    requests that run, and requests that wait for a container. Pure."""
    if serving is None:
        return ModelState(state="unknown", containers=there, requests=running) if there else COLD
    if serving:
        return ModelState(state="ready", containers=max(there, serving), requests=running)
    if there:
        return ModelState(state="booting", phase="engine", containers=there)
    return ModelState(state="booting", phase="container", containers=0) if waiting else COLD


class ServerControl:
    """An `EngineControl` of Servers: model id -> its Server. Nothing is asked before the first question, so that a
    memory snapshot can hold it.

    Modal cannot stop a container from another one, so a model is unloaded by having its containers leave as soon as
    they are idle. Both `load` and `unload` hold until the app is deployed again.
    """

    def __init__(self, settings: Settings, servers: Mapping[str, modal.Server], *, clock: Clock) -> None:
        self._app = settings.deploy.app_name
        self._scalings = {model.id: model.scaling for model in settings.models.available_models}
        self._servers = servers
        self._clock = clock
        self._functions: dict[str, modal.Function[Any, Any, Any]] = {}
        self._releases: dict[str, asyncio.Task[None]] = {}

    def known(self, model: str) -> None:  # noqa: ARG002
        """See `EngineControl.known`: the platform must be asked."""
        return

    async def state(self, model: str) -> ModelState:
        """See `EngineControl.state`. Raises what Modal's client does."""
        if model not in self._functions:
            self._functions[model] = modal.Function.from_name(self._app, server_name(model))
        counted = self._functions[model].get_current_stats.aio()
        stats, serving = await asyncio.gather(counted, _serving(self._servers[model]))
        return state_of(
            there=stats.num_total_runners, serving=serving, running=stats.num_running_inputs, waiting=stats.backlog
        )

    async def load(self, model: str) -> None:
        """See `EngineControl.load`."""
        await self._end_release(model)
        scaling = self._scalings[model]
        await self._scale(
            model, min_containers=max(1, scaling.min_containers), scaledown_window=scaling.scaledown_window
        )

    async def unload(self, model: str, *, force: bool) -> None:
        """See `EngineControl.unload`. Those that are busy leave once they are idle."""
        if force:
            raise NotSupported("Modal does not stop a busy container for another. Without force, it leaves once idle.")
        await self._end_release(model)
        await self._scale(model, min_containers=0, scaledown_window=SHORTEST_WINDOW)
        self._releases[model] = asyncio.create_task(self._release(model), name=f"release of {model}")

    async def close(self) -> None:
        """Give every model that is being released its own window back."""
        for model in list(self._releases):
            if await self._end_release(model):
                await self._restore_window(model)

    async def _scale(self, model: str, **changes: int) -> None:
        try:
            await self._servers[model].autoscaler.update.aio(**changes)
        except modal.exception.Error as error:
            log.error("Modal did not scale %s: %s", model, error)
            raise EngineUnreachable("Modal did not take the change of the model's scaling.") from error

    async def _release(self, model: str) -> None:
        """Once the containers are gone, later ones may be idle for as long as is configured again."""
        until = self._clock.monotonic() + RELEASE_SECONDS
        while self._clock.monotonic() < until:
            await self._clock.sleep(LOOK_SECONDS)
            try:
                if not (await self.state(model)).containers:
                    break
            except modal.exception.Error as error:
                log.info("whether %s is unloaded is not known: %r", model, error)
        await self._restore_window(model)

    async def _restore_window(self, model: str) -> None:
        window = self._scalings[model].scaledown_window
        try:
            await self._scale(model, scaledown_window=window)
        except EngineUnreachable:
            log.warning("%s keeps a scaledown window of %d s until it is loaded", model, SHORTEST_WINDOW)

    async def _end_release(self, model: str) -> bool:
        """Whether one was under way: the window is the shortest then."""
        task = self._releases.pop(model, None)
        if task is None or task.done():
            return False
        task.cancel()
        await asyncio.wait((task,))
        return True


async def _serving(server: modal.Server) -> int | None:
    """How many of a Server's containers take requests; None where Modal does not tell (its list is experimental)."""
    try:
        return len(await server._experimental_list_containers.aio())
    except (AttributeError, modal.exception.Error) as error:
        log.info("the containers that serve are not known: %r", error)
        return None
