"""`POST /v1/responses` and its count of tokens, plain ASGI as every token's path is; and what is asked of stored
responses, of which there are none yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from fastapi import APIRouter

from web.asgi import read_body
from web.dialects.responses import parse_count, parse_responses
from web.dialects.responses_answer import ResponsesDialect
from web.errors import ResponseNotFound
from web.routes.counting import CountEndpoint

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from web.clock import Clock
    from web.generation import Generator
    from web.services import Services
    from web.tokens import Tokens


class ResponsesEndpoint:
    def __init__(self, generator: Generator, clock: Clock, *, max_body_bytes: int) -> None:
        self._generator = generator
        self._clock = clock
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = parse_responses(await read_body(scope, receive, limit=self._max_body_bytes))
        dialect = ResponsesDialect(call.repeated, now=self._clock.time)
        await self._generator.serve(call.request, dialect, scope, receive, send)


def count_body(count: int) -> bytes:
    """What a count is answered with."""
    return orjson.dumps({"object": "response.input_tokens", "input_tokens": count})


def endpoints(services: Services, generator: Generator, tokens: Tokens) -> dict[str, ASGIApp]:
    """Path -> what answers a POST there."""
    most = services.settings.web.max_body_bytes
    return {
        "/v1/responses": ResponsesEndpoint(generator, services.clock, max_body_bytes=most),
        "/v1/responses/input_tokens": CountEndpoint(services, generator, tokens, parse=parse_count, render=count_body),
    }


def router() -> APIRouter:
    """Whatever is asked of a stored response: it is not there."""
    api = APIRouter(tags=["responses"], responses={404: {"description": "Responses are not stored yet"}})

    @api.get("/v1/responses/{response_id}", summary="A stored response: there are none yet")
    @api.delete("/v1/responses/{response_id}", summary="Delete a stored response: there are none yet")
    @api.post("/v1/responses/{response_id}/cancel", summary="Cancel a response in the background: there are none yet")
    @api.get("/v1/responses/{response_id}/input_items", summary="A stored response's input: there are none yet")
    async def not_stored(response_id: str) -> dict[str, Any]:
        raise ResponseNotFound(response_id)

    return api
