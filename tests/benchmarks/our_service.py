"""The service's application before an engine that runs already: on the server of the standalone form, or by itself."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from functions.logs import configure_logging
from functions.shared import metrics_store, shared_state
from functions.state import limiter, tracing_of
from infra.configuration import load_settings
from tests.configured_engines import ConfiguredEngines
from web.application import create_application
from web.clock import RealClock
from web.draining import Draining
from web.engines import EngineTarget
from web.services import Services

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from infra.settings import EngineKind


UPSTREAM = "BENCHMARK_UPSTREAM"
"""The environment variable that names the engine's address."""
KIND = "BENCHMARK_ENGINE"
"""Whose dialect it speaks: the scripted engine's unless set."""
ENGINE_KEY = "BENCHMARK_ENGINE_KEY"
"""And the key that it asks for, if it does."""
SHARED_LIMITS = "BENCHMARK_SHARED_LIMITS"
"""And the one with which limits are shared, in the settings' table, which boto3's environment leads to…"""
SHARED_METRICS = "BENCHMARK_SHARED_METRICS"
"""… and the one for metrics."""
LOGGED = "BENCHMARK_LOGGED"
"""And the one with which each request is logged, as the service does unless told otherwise."""


def create(*, coalesce_seconds: float = 0.0, draining: Draining | None = None) -> ASGIApp:
    settings = load_settings()
    (model,) = settings.models.available_models
    kind: EngineKind = "sglang" if os.environ.get(KIND) == "sglang" else "scripted"
    headers = {"Authorization": f"Bearer {os.environ[ENGINE_KEY]}"} if ENGINE_KEY in os.environ else {}
    target = EngineTarget(url=os.environ[UPSTREAM], kind=kind, model=model.name, headers=headers)
    engines = ConfiguredEngines(settings.models, {model.id: target})
    if LOGGED in os.environ:
        configure_logging(settings)
    state = shared_state(settings) if {SHARED_LIMITS, SHARED_METRICS} & os.environ.keys() else None
    return create_application(
        Services(
            settings=settings, engines=engines, coalesce_seconds=coalesce_seconds, draining=draining,
            limiter=limiter(state if SHARED_LIMITS in os.environ else None, settings, RealClock()),
            metrics=metrics_store(state if SHARED_METRICS in os.environ else None, settings),
            tracing=tracing_of(settings),
        )
    )  # fmt: skip


def main() -> None:
    from functions.listening import Listening

    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.our_service")
    parser.add_argument("--port", type=int, required=True)
    draining = Draining(clock=RealClock(), grace=0.0)
    Listening(create(draining=draining), draining, host="127.0.0.1", port=parser.parse_args().port).run()


if __name__ == "__main__":
    main()
