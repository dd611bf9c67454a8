"""From a caller's request for tokens to its answer: guarded, limited, admitted, relayed and observed, in this order.

Every dialect and every transport comes through here, so that what holds for one holds for all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from web.asgi import Header
    from web.caller import Caller
    from web.dialects.base import AnswerBuilder, Dialect, StreamRenderer
    from web.dialects.request import GenerationRequest
    from web.outlets import Outlet
    from web.relay import Relay


class Generator:
    """Stateless but for the parts that it was given."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    async def serve(
        self, request: GenerationRequest, dialect: Dialect, scope: Scope, receive: Receive, send: Send,
        *, headers: list[Header] | None = None,
    ) -> None:  # fmt: skip
        """Answer over HTTP, streamed or not, whoever `caller_of(scope)` is. Returns early when the caller leaves.

        The request's body must have been read. Raises ServiceError as long as nothing of the answer was sent.
        """
        del scope  # whose caller keys, limits and metrics look at
        await self._relay.serve(request, dialect, receive, send, headers=headers)

    async def tell(self, request: GenerationRequest, renderer: StreamRenderer, outlet: Outlet, caller: Caller) -> None:
        """Stream the answer to `outlet`; cancel to end it. Raises ServiceError as long as nothing was sent."""
        del caller
        await self._relay.tell(request, renderer, outlet)

    async def collect(self, request: GenerationRequest, builder: AnswerBuilder, caller: Caller) -> bytes:
        """The whole answer, as `builder` makes it; cancel to end it. Raises ServiceError."""
        del caller
        return await self._relay.collect(request, builder)
