"""The service's application before an engine that runs already: uvicorn's factory for the benchmark."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from infra.configuration import load_settings
from web.application import create_application
from web.engines import ConfiguredEngines, EngineTarget
from web.services import Services

if TYPE_CHECKING:
    from starlette.types import ASGIApp


UPSTREAM = "BENCHMARK_UPSTREAM"
"""The environment variable that names the engine's address."""


def create(*, coalesce_seconds: float = 0.0) -> ASGIApp:
    settings = load_settings()
    (model,) = settings.models.available_models
    target = EngineTarget(url=os.environ[UPSTREAM], kind="scripted", model=model.name)
    engines = ConfiguredEngines(settings.models, {model.id: target})
    return create_application(Services(settings=settings, engines=engines, coalesce_seconds=coalesce_seconds))
