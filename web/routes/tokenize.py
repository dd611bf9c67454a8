"""`POST /tokenize` and `/detokenize`, also below `/v1`: text to a model's tokens and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from web.asgi import Presence, read_body
from web.caller import caller_of
from web.dialects.tokenize import (
    detokenize_answer,
    detokenize_error,
    parse_detokenize,
    parse_tokenize,
    tokenize_answer,
)
from web.errors import EngineBroken, EngineRefused, ModelNotFound
from web.plain_response import PlainResponse

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import ASGIApp, Receive, Scope, Send

    from web.generation import Generator
    from web.services import Services
    from web.tokens import Tokens

    Work = Callable[[Tokens], Awaitable[bytes]]


class TokenEndpoints:
    def __init__(self, services: Services, generator: Generator, tokens: Tokens) -> None:
        self._services = services
        self._web = services.settings.web
        self._generator = generator
        self._tokens = tokens

    async def tokenize(self, scope: Scope, receive: Receive, send: Send) -> None:
        wanted = parse_tokenize(await read_body(scope, receive, limit=self._web.max_body_bytes))
        model = self._services.settings.models.find(wanted.model)
        if model is None:
            raise ModelNotFound(wanted.model)

        async def work(tokens: Tokens) -> bytes:
            if wanted.chat is not None:
                found = await tokens.of_messages(wanted.model, wanted.chat)
            else:
                found = await tokens.of_text(wanted.model, wanted.prompt or "", special=wanted.special)
            return tokenize_answer(found, model)

        await self._answer(wanted.model, work, scope, receive, send)

    async def detokenize(self, scope: Scope, receive: Receive, send: Send) -> None:
        label, given = parse_detokenize(await read_body(scope, receive, limit=self._web.max_body_bytes))

        async def work(tokens: Tokens) -> bytes:
            try:
                return detokenize_answer(await tokens.to_text(label, given) if given else "")
            except (EngineBroken, EngineRefused) as error:
                raise detokenize_error(error) from None

        await self._answer(label, work, scope, receive, send)

    async def _answer(self, label: str, work: Work, scope: Scope, receive: Receive, send: Send) -> None:
        async with (
            Presence(receive, scope),
            PlainResponse(send, clock=self._services.clock, web=self._web) as response,
            self._generator.place(label, caller_of(scope)) as passage,
        ):
            response.follow(passage)
            await response.end(await work(self._tokens.along(passage)))


def endpoints(services: Services, generator: Generator, tokens: Tokens) -> dict[str, ASGIApp]:
    """Path -> what answers a POST there."""
    those = TokenEndpoints(services, generator, tokens)
    return {
        prefix + path: endpoint
        for prefix in ("", "/v1")
        for path, endpoint in (("/tokenize", those.tokenize), ("/detokenize", those.detokenize))
    }
