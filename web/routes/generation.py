"""`POST /v1/chat/completions` and `POST /v1/completions`: plain ASGI, since every token passes here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from web.asgi import read_body
from web.dialects.openai import parse_chat, parse_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Receive, Scope, Send

    from web.dialects.request import GenerationRequest
    from web.relay import Relay


class Generation:
    """An ASGI endpoint: a body that `parse` understands, answered by the relay."""

    def __init__(self, relay: Relay, parse: Callable[[bytes], GenerationRequest], *, max_body_bytes: int) -> None:
        self._relay = relay
        self._parse = parse
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await read_body(scope, receive, limit=self._max_body_bytes)
        await self._relay.serve(self._parse(body), receive, send)


def endpoints(relay: Relay, *, max_body_bytes: int) -> dict[str, ASGIApp]:
    """Path -> what answers a POST there."""
    return {
        "/v1/chat/completions": Generation(relay, parse_chat, max_body_bytes=max_body_bytes),
        "/v1/completions": Generation(relay, parse_text, max_body_bytes=max_body_bytes),
    }
