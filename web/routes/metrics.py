"""`GET /metrics` (or where the configuration says): Prometheus' text format, or OpenMetrics for who asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter, Header
from prometheus_client.exposition import choose_encoder
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotations
from starlette.responses import Response

from web.auth import require_scope
from web.caller import caller_of

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

FORMATS = {"text/plain": {"schema": {"type": "string"}}, "application/openmetrics-text": {"schema": {"type": "string"}}}


def router(registry: CollectorRegistry, *, path: str) -> APIRouter:
    api = APIRouter(tags=["health"])

    @api.get(
        path, summary="What this process has counted, for Prometheus", response_class=Response,
        responses={200: {"description": "In the format that `Accept` prefers", "content": FORMATS}},
    )  # fmt: skip
    async def metrics(request: Request, accept: str = Header(default="", include_in_schema=False)) -> Response:
        require_scope(caller_of(request.scope), "metrics")
        encode, content_type = choose_encoder(accept)
        return Response(encode(registry), headers={"content-type": content_type})

    return api
