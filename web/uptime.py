"""`GET /health`: that this process lives."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson

from web.asgi import send_body

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from web.clock import Clock

HEALTH = "/health"


class Uptime:
    """Seconds since the server began to serve: told by the lifespan, which runs after a memory snapshot is restored,
    else (a server without one) since it was first asked. As an ASGI endpoint it answers `GET /health`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began: float | None = None

    def begin(self) -> None:
        self._began = self._clock.monotonic()

    def seconds(self) -> float:
        if self._began is None:
            self.begin()
        return round(self._clock.monotonic() - (self._began or 0.0), 3)

    def timestamp(self) -> str:
        return datetime.fromtimestamp(self._clock.time(), UTC).isoformat()

    def health(self) -> dict[str, Any]:
        return {"status": "ok", "uptime": self.seconds(), "timestamp": self.timestamp()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 (ASGI)
        await send_body(send, orjson.dumps(self.health()))
