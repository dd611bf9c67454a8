"""`POST /v1/messages` and `POST /v1/messages/count_tokens`: Anthropic's API, plain ASGI as every token's path is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from web.asgi import Presence, read_body, send_body
from web.caller import request_id_of
from web.dialects.anthropic import parse_count, parse_messages
from web.dialects.anthropic_answer import AnthropicDialect

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from web.generation import Generator
    from web.tokens import Tokens


class MessagesEndpoint:
    def __init__(self, generator: Generator, *, max_body_bytes: int) -> None:
        self._generator = generator
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = parse_messages(await read_body(scope, receive, limit=self._max_body_bytes))
        dialect = AnthropicDialect(hide_thinking=call.hide_thinking, request_id=request_id_of(scope))
        await self._generator.serve(call.request, dialect, scope, receive, send)


class CountEndpoint:
    def __init__(self, tokens: Tokens, *, max_body_bytes: int) -> None:
        self._tokens = tokens
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = parse_count(await read_body(scope, receive, limit=self._max_body_bytes))
        async with Presence(receive):
            count = await self._tokens.count_tokens(request)
            await send_body(send, orjson.dumps({"input_tokens": count}))


def endpoints(generator: Generator, tokens: Tokens, *, max_body_bytes: int) -> dict[str, ASGIApp]:
    """Path -> what answers a POST there."""
    return {
        "/v1/messages": MessagesEndpoint(generator, max_body_bytes=max_body_bytes),
        "/v1/messages/count_tokens": CountEndpoint(tokens, max_body_bytes=max_body_bytes),
    }
