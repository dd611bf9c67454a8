"""What an HTTP request that will cost something passes before its body is read: its key's scope and its rate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from web.auth import require_scope
from web.caller import caller_of
from web.limits import headers_of
from web.middleware import route_path

if TYPE_CHECKING:
    from collections.abc import Collection

    from starlette.types import ASGIApp, Receive, Scope, Send

    from web.limits import Limiter

LIMITED_PATHS = frozenset({
    "/v1/embeddings", "/tokenize", "/detokenize", "/v1/tokenize", "/v1/detokenize", "/v1/files", "/v1/batches",
    "/v1/conversations",
})  # fmt: skip
"""Which cost an engine's time, or room, beside those that are served past FastAPI: all of these do."""


class RequestLimits:
    """Counts each POST to one of `paths`, and has its rate told in the headers of its answer, whatever that is
    (`RequestIdentity` does). Raises PermissionDenied and RateLimited."""

    def __init__(self, app: ASGIApp, limiter: Limiter, paths: Collection[str]) -> None:
        self._app = app
        self._limiter = limiter
        self._paths = frozenset(paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST" and route_path(scope) in self._paths:
            caller = caller_of(scope)
            require_scope(caller, "inference")
            state = scope["state"]
            state["standing"] = lambda: headers_of(self._limiter.standing(caller))
            await self._limiter.take(caller)
            state["caller"] = caller.once_counted()
        await self._app(scope, receive, send)
