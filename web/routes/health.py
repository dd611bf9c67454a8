"""`GET /health` and `GET /readiness`: neither touches an engine. A cold model can serve: it counts as available."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Response

from web.errors import presentable

if TYPE_CHECKING:
    from web.clock import Clock
    from web.draining import Draining
    from web.services import Services
    from web.states import ModelStates


class Uptime:
    """Seconds since the server began to serve: told by the lifespan, which runs after a memory snapshot is restored,
    else (a server without one) since it was first asked."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began: float | None = None

    def begin(self) -> None:
        self._began = self._clock.monotonic()

    def seconds(self) -> float:
        if self._began is None:
            self.begin()
        return round(self._clock.monotonic() - (self._began or 0.0), 3)


def router(services: Services, states: ModelStates, uptime: Uptime, draining: Draining) -> APIRouter:
    api = APIRouter(tags=["health"])
    clock = services.clock

    def timestamp() -> str:
        return datetime.fromtimestamp(clock.time(), UTC).isoformat()

    @api.get("/health", summary="Whether this process lives")
    async def health() -> dict[str, Any]:
        return {"status": "ok", "uptime": uptime.seconds(), "timestamp": timestamp()}

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
