"""The engines of the configured models as processes of this machine: where they are, and what may be done with them."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from functions.engine_lives import EngineLives
from functions.engines.registry import make_engine
from functions.local_engine import LocalEngine
from infra.gpus import split
from infra.metric_snapshots import total
from infra.model_files import model_files
from web.engines import EngineTarget
from web.errors import ModelNotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from functions.boot import Boot
    from functions.engines.base import Address, Engine
    from infra.metric_snapshots import Snapshot
    from infra.settings import Model, Settings, Target
    from web.clock import Clock
    from web.sightings import Sightings
    from web.states import ModelState

log = logging.getLogger(__name__)

PROGRAMS = {"sglang": "sglang", "llamacpp": "xllamacpp"}
"""Engine -> the package that it cannot do without."""


def is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def target_of(model: Model, settings: Settings, *, installed: Callable[[str], bool] = is_installed) -> Target:
    """Which of a model's engines serves it here: the one for `deploy.target`, or where that is not installed, the
    local one."""
    target = settings.deploy.target
    package = PROGRAMS.get(model.engine_for(settings.models, target))
    if target == "local" or package is None or installed(package):
        return target
    log.warning("model %s: %s is not installed here, so %s serves it instead", model.id, package, model.local_engine)
    return "local"


def gpus_of(models: Sequence[Model], visible: str | None, *, counts: Mapping[str, int]) -> dict[str, str | None]:
    """Model id -> its `CUDA_VISIBLE_DEVICES`. Pure.

    Each model gets GPUs of its own, as many as `counts` says, in order, while `visible` names enough for all; else
    every one sees all of them.
    """
    names = [name.strip() for name in visible.split(",") if name.strip()] if visible is not None else []
    if sum(counts.values()) > len(names):
        return {model.id: visible for model in models}
    assigned: dict[str, str | None] = {}
    for model in models:
        count = counts.get(model.id, 0)
        assigned[model.id] = ",".join(names[:count]) if count else visible
        names = names[count:]
    return assigned


class LocalEngines:
    """An `EngineDirectory` and an `EngineControl`. Belongs to one event loop; starts nothing before `start`.

    Engines listen on the loopback interface, and take a key that is made anew each time.
    """

    def __init__(self, settings: Settings, *, sightings: Sightings, clock: Clock) -> None:
        self._settings = settings
        self._key = f"ek-{secrets.token_urlsafe(32)}"
        models = settings.models.available_models
        self._targets = {model.id: target_of(model, settings) for model in models}
        self._gpus = gpus_of(models, settings.models.cuda_visible_devices, counts=self._gpu_counts())
        self._lives = {
            model.id: EngineLives(model.id, api_key=self._key, monotonic=clock.monotonic) for model in models
        }
        self._engines = {
            model.id: LocalEngine(
                model,
                self._maker(model),
                seen=sightings.of(model.id),
                clock=clock,
                health=settings.health,
                lives=self._lives[model.id],
            )
            for model in models
        }

    def start(self) -> None:
        """Start the engines that are kept."""
        for engine in self._engines.values():
            if engine.kept:
                engine.load()

    def resolve(self, label: str) -> EngineTarget:
        """See `EngineDirectory.resolve`. Starts the engine if it does not run."""
        model = self._settings.models.find(label)
        if model is None:
            raise ModelNotFound(label)
        kind = model.engine_for(self._settings.models, self._targets[model.id])
        headers = {"Authorization": f"Bearer {self._key}"}
        return EngineTarget(url=self._engines[model.id].demand().url, kind=kind, model=model.id, headers=headers)

    def known(self, model: str) -> ModelState:
        """See `EngineControl.known`."""
        return self._engines[model].state()

    async def state(self, model: str) -> ModelState:
        """See `EngineControl.state`."""
        return self.known(model)

    def metrics(self) -> Snapshot:
        """What the engines have told when they were last looked at, and how they came and went."""
        return total(lives.snapshot() for lives in self._lives.values())

    async def look(self, *, every: float, clock: Clock) -> None:
        """Ask the engines for their metrics, again and again, until it is cancelled."""
        while True:
            await clock.sleep(every)
            await asyncio.gather(*(lives.look() for lives in self._lives.values()))

    async def load(self, model: str) -> None:
        """See `EngineControl.load`."""
        self._engines[model].load()

    async def unload(self, model: str, *, force: bool) -> None:
        """See `EngineControl.unload`: returns when its process is gone."""
        await self._engines[model].unload(force=force)

    async def close(self) -> None:
        """Stop every engine, and return when their processes are gone."""
        await asyncio.gather(*(engine.close() for engine in self._engines.values()))

    def _gpu_counts(self) -> dict[str, int]:
        """How many GPUs each model is to have for itself: none for those that do not run on any."""
        models = self._settings.models
        return {
            model.id: split(model.gpu)[1]
            for model in models.available_models
            if self._targets[model.id] == "modal"
            and model.engine_for(models, "modal") == "sglang"
            and model.device_of(models) == "cuda"
        }

    def _maker(self, model: Model) -> Callable[[Address, Boot], Engine]:
        models, deploy = self._settings.models, self._settings.deploy
        settings = self._settings.model_copy(
            update={
                "models": models.model_copy(update={"cuda_visible_devices": self._gpus[model.id]}),
                "deploy": deploy.model_copy(update={"target": self._targets[model.id]}),
            }
        )
        token = models.hf_token.get_secret_value() if models.hf_token else None
        files = model_files(model) or Path()

        def make(address: Address, boot: Boot) -> Engine:
            return make_engine(
                model,
                settings,
                address=address,
                api_key=self._key,
                files=files,
                hf_token=token,
                boot=boot,
                rented=False,
            )

        return make
