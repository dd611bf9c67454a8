"""The container of an engine: registered as a Modal Server once for each configured model."""

from __future__ import annotations

import logging
import os
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import modal

from functions.boot import Boot, BootPhases, container_seconds
from functions.engines.base import Address, EngineStartError
from functions.engines.failed import FailureServer
from functions.engines.registry import make_engine
from functions.images import model_folder
from functions.logs import configure_logging
from functions.watch import Watch
from infra.configuration import load_settings
from infra.secrets import ENGINE_API_KEY, HF_TOKEN

if TYPE_CHECKING:
    from infra.settings import Model, Settings

MODEL_VARIABLE = "MODEL_ID"
PORT_VARIABLE = "ENGINE_PORT"
STARTUP_MARGIN = 30
"""Seconds that Modal waits longer than the engine may take, so that it is the engine's error that callers see."""

log = logging.getLogger(__name__)


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


class EngineServer:
    """Starts the engine of the model that `MODEL_ID` names, on the port `ENGINE_PORT`, and leaves with it.

    An engine that cannot start (a broken model file, say) is answered for by a small server on its port, so that
    callers learn why instead of waiting for a container that never comes.
    """

    @modal.enter()
    def start(self) -> None:
        boot = Boot(container=container_seconds())
        settings = load_settings()
        configure_logging(settings, model=os.environ[MODEL_VARIABLE])
        model = settings.models.find(os.environ[MODEL_VARIABLE])
        if model is None:
            raise LookupError(f"{MODEL_VARIABLE}={os.environ[MODEL_VARIABLE]!r} is not among the configured models")
        address = Address(host="0.0.0.0", port=int(os.environ[PORT_VARIABLE]))  # noqa: S104 - the container's own network
        self.failure: FailureServer | None = None
        self.boot: BootPhases | None = None
        self.leaving = threading.Event()
        try:
            self.engine = make_engine(
                model,
                settings,
                address=address,
                files=Path(model_folder(model)),
                api_key=os.environ.get(ENGINE_API_KEY),
                hf_token=os.environ.get(HF_TOKEN),
                boot=boot,
            )
            self.engine.start()
        except EngineStartError as error:
            log.error("model %s cannot be served: %s", model.id, error.message)
            self.failure = FailureServer(address, error.message)
            try:
                self.failure.start()
            except OSError as taken:
                log.error("and port %d cannot tell so to callers: %s", address.port, taken)
                raise
            return
        self.boot = boot.is_ready()
        told = {"model": model.id, "boot_seconds": dict(self.boot.seconds)}
        log.info("model %s is ready: %s", model.id, self.boot, extra=told)
        self.watch = Watch(self.engine, settings.health, name=model.id)
        self.watch.begin()
        threading.Thread(target=self._leave_with_the_engine, name="engine-watch", daemon=True).start()

    def _leave_with_the_engine(self) -> None:
        self.engine.wait()
        self.watch.end()
        if not self.leaving.is_set():
            why = self.watch.verdict or "it ended by itself"
            log.error("the engine is gone (%s): the container leaves, so that another can come", why)
            os.kill(os.getpid(), signal.SIGTERM)

    @modal.exit()
    def stop(self) -> None:
        self.leaving.set()
        if self.failure is not None:
            self.failure.stop()
        else:
            self.watch.end()
            self.engine.stop()
