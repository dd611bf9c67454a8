"""`GET /health` and `GET /readiness`: neither touches an engine. A cold model can serve: it counts as available."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Response

from web.errors import presentable

if TYPE_CHECKING:
    from web.draining import Draining
    from web.states import ModelStates
    from web.uptime import Uptime


def router(states: ModelStates, uptime: Uptime, draining: Draining) -> APIRouter:
    api = APIRouter(tags=["health"])

    timestamp = uptime.timestamp

    @api.get("/health", summary="Whether this process lives")
    async def health() -> dict[str, Any]:
        return uptime.health()

    @api.get("/readiness", summary="Whether a model can serve", responses={503: {"description": "No model can"}})
    async def readiness(response: Response) -> dict[str, Any]:
        known = await states.all()
        told = [{"id": model, "state": state.state} for model, state in known.items()]
        if draining.begun:
            response.status_code = 503
            return {"status": "not_ready", "reason": "the server is shutting down", "models": told,
                    "timestamp": timestamp()}  # fmt: skip
        if available := sum(state.available for state in known.values()):
            return {"status": "ready", "models_available": available, "models": told, "timestamp": timestamp()}
        response.status_code = 503
        reasons = "; ".join(f"{model}: {presentable(state.reason or state.state)}" for model, state in known.items())
        return {"status": "not_ready", "reason": f"no model can be served: {reasons}", "models": told,
                "timestamp": timestamp()}  # fmt: skip

    return api
