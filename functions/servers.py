"""The containers of engines: each registered as a Modal Server once for each configured model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import modal

from functions.boot import Boot, container_seconds
from functions.engine_container import MODEL_VARIABLE, PORT_VARIABLE, EngineContainer
from functions.images import sleeps_in_snapshots

if TYPE_CHECKING:
    from infra.settings import Model, Settings

__all__ = ["MODEL_VARIABLE", "PORT_VARIABLE"]
STARTUP_MARGIN = 30
"""Seconds that Modal waits longer than the engine may take, so that it is the engine's error that callers see."""


def gpu_of(model: Model, settings: Settings) -> str | None:
    """The GPU that the container of `model` asks for: none where its engine runs on the CPU."""
    return model.gpu if model.runs_on(settings.models, settings.deploy.target) == "cuda" else None


def scale_and_place(model: Model, settings: Settings) -> dict[str, Any]:
    """What Modal is told of the containers of `model`: how many, for how many requests, what they get and where they
    are. As parameters of `App.server`; what is not configured is left to Modal."""
    container = model.container.model_dump(exclude={"regions"}, exclude_none=True)
    if model.container.regions:
        container["compute_region"] = list(model.container.regions)
    scaling = model.scaling.model_dump(exclude_none=True)
    return {**container, **scaling, "max_concurrency": model.concurrency(settings.models)}


def port_of(model: Model, settings: Settings) -> int:
    """Where the engine of `model` listens in its container: Modal routes the Server's requests to it.

    No other container of the app listens there: on a machine without namespaces they share its ports.
    """
    return settings.deploy.first_port + 1 + settings.models.available_models.index(model)


def snapshots_of(model: Model, settings: Settings) -> dict[str, Any]:
    """What a Server is told of snapshots: of the container's memory, and of its GPU's where it has one."""
    if not sleeps_in_snapshots(model, settings):
        return {}
    gpu = {"experimental_options": {"enable_gpu_snapshot": True}} if gpu_of(model, settings) else {}
    return {"enable_memory_snapshot": True, **gpu}


def server_of(model: Model, settings: Settings) -> type[EngineServer | SnapshotServer]:
    """Which of the two containers serves `model`."""
    return SnapshotServer if sleeps_in_snapshots(model, settings) else EngineServer


class EngineServer:
    """Starts the engine of the model that `MODEL_ID` names, on the port `ENGINE_PORT`, and leaves with it."""

    container: EngineContainer | None = None
    """None until it is known what it is for: Modal has its end told also where that failed."""

    @modal.enter()
    def start(self) -> None:
        boot = Boot(container=container_seconds())
        self.container = EngineContainer.here()
        self.container.start(boot)

    @modal.exit()
    def stop(self) -> None:
        if self.container is not None:
            self.container.stop()


class SnapshotServer:
    """The same, where Modal takes a snapshot of the container between the two: the engine is in it, asleep."""

    container: EngineContainer | None = None

    @modal.enter(snap=True)
    def prepare(self) -> None:
        self.container = EngineContainer.here()
        self.container.prepare()

    @modal.enter()
    def resume(self) -> None:
        assert self.container is not None
        self.container.resume()

    @modal.exit()
    def stop(self) -> None:
        if self.container is not None:
            self.container.stop()
