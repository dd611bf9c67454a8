"""`GET /metrics` (or where the configuration says): Prometheus' text format, or OpenMetrics for who asks for it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from fastapi import APIRouter, Header
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotations
from starlette.responses import Response

from infra.aws import StateUnavailable
from web.auth import require_scope
from web.caller import caller_of
from web.errors import UNAVAILABLE, ServiceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infra.metric_snapshots import Snapshot
    from web.metrics import Metrics
    from web.publishing import Publisher
    from web.services import Services

FORMATS = {"text/plain": {"schema": {"type": "string"}}, "application/openmetrics-text": {"schema": {"type": "string"}}}

log = logging.getLogger(__name__)


class MetricsUnavailable(ServiceError):
    """What adds up containers' metrics cannot be reached. This container's own would be a sum that falls."""

    status, type, code, again, retry_after = 503, UNAVAILABLE, "metrics_unavailable", True, 2.0

    def __init__(self) -> None:
        super().__init__("The metrics of all containers cannot be read now. Try again.")


def router(services: Services, metrics: Metrics, published: Publisher | None) -> APIRouter:
    """`published`: of all containers; None: this process's are all that there are."""
    api = APIRouter(tags=["health"])
    models = [model.id for model in services.settings.models.available_models]

    @api.get(
        services.settings.observability.metrics_path, summary="What all containers have counted, for Prometheus",
        response_class=Response,
        responses={200: {"description": "In the format that `Accept` prefers", "content": FORMATS},
                   503: {"description": "What adds them up cannot be reached now"}},
    )  # fmt: skip
    async def told(request: Request, accept: str = Header(default="", include_in_schema=False)) -> Response:
        require_scope(caller_of(request.scope), "metrics")
        if published is None:
            snapshot = metrics.snapshot(services.clock.monotonic())
        else:
            try:
                snapshot = await published.total()
            except StateUnavailable as error:
                log.error("metrics cannot be read: %s", error)
                raise MetricsUnavailable from error
        # At ten models it takes a tenth of a second, in which the loop has streams to serve.
        body, content_type = await asyncio.to_thread(_rendered, snapshot, models, accept)
        return Response(body, headers={"content-type": content_type})

    return api


def _rendered(snapshot: Snapshot, models: Sequence[str], accept: str) -> tuple[bytes, str]:
    # Not at import: the first request of a container is seldom a scrape.
    from infra.metric_text import render

    return render(snapshot, models=models, accept=accept)
