"""`POST /v1/responses` and its count of tokens, plain ASGI as every token's path is; and what is asked of stored
responses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Query, Request

from web.asgi import Presence, read_body
from web.caller import caller_of
from web.conversations import TOO_LONG
from web.dialects.responses import parse_count, parse_responses
from web.dialects.responses_answer import ResponsesDialect
from web.dialects.responses_input import fewer
from web.dialects.stored_responses import DeletedResponse, ItemPage, item_page
from web.errors import InvalidRequest, ServiceError
from web.routes.counting import CountEndpoint
from web.sessions import owner_of

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from web.clock import Clock
    from web.dialects.request import GenerationRequest
    from web.dialects.responses import ResponsesCall
    from web.generation import Generator
    from web.response_turn import ResponseTurn
    from web.response_turns import ResponseTurns
    from web.services import Services
    from web.tokens import Tokens


class ResponsesEndpoint:
    def __init__(self, generator: Generator, clock: Clock, turns: ResponseTurns, *, max_body_bytes: int) -> None:
        self._generator = generator
        self._clock = clock
        self._turns = turns
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = parse_responses(await read_body(scope, receive, limit=self._max_body_bytes))
        dialect = ResponsesDialect(call.repeated, now=self._clock.time)
        if call.alone:
            await self._generator.serve(call.request(), dialect, scope, receive, send)
            return
        async with Presence(receive, scope):
            turn = await self._turns.begin(call, owner_of(caller_of(scope)))
            out = KeptFirst(send, turn, dialect)
            try:
                await self._answer(call, turn, dialect, scope, out)
            finally:
                await turn.end(dialect.left() if out.begun else None)  # who was told nothing knows no id

    async def _answer(
        self, call: ResponsesCall, turn: ResponseTurn, dialect: ResponsesDialect, scope: Scope, out: KeptFirst
    ) -> None:
        """As often as it turns out to be too long for the model, where older items may be left out then."""
        items = (*turn.history, *turn.input)
        shown = len(items)
        while True:
            out.may_be_shorter = call.truncated and fewer(items, shown) is not None
            left_out = len(items) - shown
            request = call.request(
                turn.input[max(0, left_out - len(turn.history)) :], history=turn.history[left_out:],
                affinity=turn.affinity,
            )  # fmt: skip
            try:
                await self._generator.serve(request, dialect, scope, None, out)
            except ServiceError as error:
                if error.code not in TOO_LONG or not out.may_be_shorter:
                    raise
            else:
                if not out.too_long:
                    return
            shown = fewer(items, shown) or shown


class KeptFirst:
    """An ASGI `send` that lets the end of a response leave only when it is kept. `may_be_shorter`: one that failed for
    its length, which may be when headers and comments have left already, is not told, but noted as `too_long`; another
    follows in its place."""

    def __init__(self, send: Send, turn: ResponseTurn, dialect: ResponsesDialect) -> None:
        self.begun = False
        self.may_be_shorter = False
        self._send = send
        self._turn = turn
        self._dialect = dialect

    @property
    def too_long(self) -> bool:
        ended = self._dialect.ended or {}
        return self.may_be_shorter and not ended.get("output") and (ended.get("error") or {}).get("type") in TOO_LONG

    async def __call__(self, message: Message) -> None:
        if self.too_long or (self.begun and message["type"] == "http.response.start"):
            return
        if (ended := self._dialect.ended) is not None:
            await self._turn.keep(ended)
        await self._send(message)
        self.begun = True


class ResponsesCountEndpoint(CountEndpoint):
    """Counts what was stored as well."""

    def __init__(self, services: Services, generator: Generator, tokens: Tokens, turns: ResponseTurns) -> None:
        super().__init__(services, generator, tokens, render=count_body)
        self._turns = turns

    async def asked(self, body: bytes, scope: Scope) -> GenerationRequest:
        call = parse_count(body)
        return call.request(history=await self._turns.history(call, owner_of(caller_of(scope))))


def count_body(count: int) -> bytes:
    """What a count is answered with."""
    return orjson.dumps({"object": "response.input_tokens", "input_tokens": count})


def endpoints(
    services: Services, generator: Generator, tokens: Tokens, turns: ResponseTurns
) -> dict[str, ASGIApp]:  # fmt: skip
    """Path -> what answers a POST there."""
    most = services.settings.web.max_body_bytes
    return {
        "/v1/responses": ResponsesEndpoint(generator, services.clock, turns, max_body_bytes=most),
        "/v1/responses/input_tokens": ResponsesCountEndpoint(services, generator, tokens, turns),
    }


def router(turns: ResponseTurns) -> APIRouter:
    """What is asked of a stored response."""
    api = APIRouter(tags=["responses"], responses={404: {"description": "There is no such response"}})
    one = "/v1/responses/{response_id}"

    def owner(request: Request) -> str:
        return owner_of(caller_of(request.scope))

    @api.get(one, summary="A stored response", responses={400: {"description": "It cannot be streamed again"}})
    async def get(request: Request, response_id: str, stream: bool = False) -> dict[str, Any]:
        stored = await turns.load(owner(request), response_id)
        if stream:
            raise InvalidRequest(
                "A response can be streamed again only if it was created with 'background': true, which is not "
                "supported.",
                param="stream", code="unsupported_value",
            )  # fmt: skip
        return stored.response

    @api.delete(one, summary="Forget a stored response; what follows it stays as it is")
    async def delete(request: Request, response_id: str) -> DeletedResponse:
        await turns.delete(owner(request), response_id)
        return DeletedResponse(id=response_id)

    @api.post(
        f"{one}/cancel", summary="Nothing is done in the background, so nothing can be cancelled: 400",
        responses={400: {"description": "The response is not made in the background"}},
    )  # fmt: skip
    async def cancel(request: Request, response_id: str) -> dict[str, Any]:
        await turns.load(owner(request), response_id)
        raise InvalidRequest("Cannot cancel a synchronous response.", param="response_id", code="invalid_value")

    @api.get(f"{one}/input_items", summary="All items that a stored response is an answer to")
    async def input_items(
        request: Request,
        response_id: str,
        after: str | None = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        order: Literal["asc", "desc"] = "desc",
    ) -> ItemPage:
        stored = await turns.load(owner(request), response_id)
        return item_page(stored.items, after=after, limit=limit, order=order)

    return api
