"""Every route that carries no tokens, and the OpenAPI document of all: what FastAPI serves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import FastAPI

from web.openapi import describe
from web.refusals import Heads, tell_errors
from web.routes import (
    admin_keys,
    batches,
    files,
    health,
    metrics,
    models,
    page,
    responses,
    sessions,
    usage,
    v1_conversations,
    v1_sessions,
)

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from web.parts import Parts


def routed(parts: Parts) -> ASGIApp:
    """The application of all these routes. It has no lifespan of its own."""
    services, settings = parts.services, parts.services.settings
    api = FastAPI(
        title="LLM inference service", redirect_slashes=False, docs_url=None, redoc_url=None,
        # It would tell what requests hold, and cost time, wherever somebody has set OpenTelemetry up in this process.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )  # fmt: skip
    tell_errors(api)
    describe(api, keys=settings.security.enable_auth)
    api.include_router(responses.router(parts.turns))
    api.include_router(v1_conversations.router(parts.turns, max_body_bytes=settings.web.max_body_bytes))
    api.include_router(models.router(services, parts.states))
    api.include_router(sessions.router(parts.conversations))
    api.include_router(v1_sessions.router(parts.conversations))
    api.include_router(admin_keys.router(services, parts.known))
    api.include_router(files.router(parts.batches.files, settings=settings.files, clock=services.clock))
    api.include_router(batches.router(parts.batches.requests))
    api.include_router(usage.router(services, parts.meter))
    api.include_router(health.router(parts.states, parts.uptime, parts.draining))
    if parts.metrics is not None:
        api.include_router(metrics.router(services, parts.metrics, parts.published))
    api.include_router(page.router())
    return Heads(api)
