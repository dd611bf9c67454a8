"""`GET /metrics` (or where the configuration says): Prometheus' text format, or OpenMetrics for who asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter, Header
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotations
from starlette.responses import Response

from infra.metric_text import render
from web.auth import require_scope
from web.caller import caller_of

if TYPE_CHECKING:
    from web.metrics import Metrics
    from web.services import Services

FORMATS = {"text/plain": {"schema": {"type": "string"}}, "application/openmetrics-text": {"schema": {"type": "string"}}}


def router(services: Services, metrics: Metrics) -> APIRouter:
    api = APIRouter(tags=["health"])
    models = [model.id for model in services.settings.models.available_models]

    @api.get(
        services.settings.observability.metrics_path, summary="What this process has counted, for Prometheus",
        response_class=Response,
        responses={200: {"description": "In the format that `Accept` prefers", "content": FORMATS}},
    )  # fmt: skip
    async def told(request: Request, accept: str = Header(default="", include_in_schema=False)) -> Response:
        require_scope(caller_of(request.scope), "metrics")
        body, content_type = render(metrics.snapshot(services.clock.monotonic()), models=models, accept=accept)
        return Response(body, headers={"content-type": content_type})

    return api
