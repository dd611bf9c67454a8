"""`POST /v1/messages` and `POST /v1/messages/count_tokens`: Anthropic's API, plain ASGI as every token's path is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from web.asgi import read_body
from web.caller import request_id_of
from web.dialects.anthropic import parse_count, parse_messages
from web.dialects.anthropic_answer import AnthropicDialect
from web.routes.counting import CountEndpoint

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from web.generation import Generator
    from web.services import Services
    from web.tokens import Tokens


class MessagesEndpoint:
    def __init__(self, generator: Generator, *, max_body_bytes: int) -> None:
        self._generator = generator
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = parse_messages(await read_body(scope, receive, limit=self._max_body_bytes))
        dialect = AnthropicDialect(hide_thinking=call.hide_thinking, edits=call.edits, request_id=request_id_of(scope))
        await self._generator.serve(call.request, dialect, scope, receive, send)


def count_body(count: int) -> bytes:
    """What a count is answered with."""
    return orjson.dumps({"input_tokens": count})


def endpoints(services: Services, generator: Generator, tokens: Tokens) -> dict[str, ASGIApp]:
    """Path -> what answers a POST there."""
    most = services.settings.web.max_body_bytes
    return {
        "/v1/messages": MessagesEndpoint(generator, max_body_bytes=most),
        "/v1/messages/count_tokens": CountEndpoint(services, generator, tokens, parse=parse_count, render=count_body),
    }
