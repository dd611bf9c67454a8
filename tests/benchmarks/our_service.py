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


def create() -> ASGIApp:
    settings = load_settings()
    (model,) = settings.models.available_models
    target = EngineTarget(url=os.environ["BENCHMARK_UPSTREAM"], kind="scripted", model=model.name)
    return create_application(
        Services(settings=settings, engines=ConfiguredEngines(settings.models, {model.id: target}))
    )
