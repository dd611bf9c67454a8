"""`POST /v1/embeddings`: texts to vectors, by models that are configured for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from web.asgi import Presence, read_body
from web.caller import caller_of
from web.capabilities import check_embeddings
from web.dialects.embeddings import (
    embeddings_answer,
    embeddings_call,
    embeddings_error,
    embeddings_usage,
    parse_embeddings,
)
from web.errors import EngineBroken, EngineRefused, ModelNotFound
from web.guards import tokens_of
from web.plain_response import PlainResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from web.dialects.embeddings import Embedding
    from web.generation import Generator
    from web.passage import Passage
    from web.plain_exchange import PlainExchanges
    from web.services import Services


class EmbeddingsEndpoint:
    def __init__(self, services: Services, generator: Generator, exchanges: PlainExchanges) -> None:
        self._services = services
        self._settings = services.settings
        self._generator = generator
        self._exchanges = exchanges

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        wanted = parse_embeddings(await read_body(scope, receive, limit=self._settings.web.max_body_bytes))
        model = self._settings.models.find(wanted.model)
        if model is None:
            raise ModelNotFound(wanted.model)
        check_embeddings(model, shortened=wanted.dimensions is not None)
        async with (
            Presence(receive, scope),
            PlainResponse(send, clock=self._services.clock, web=self._settings.web) as response,
            self._generator.place(
                wanted.model, caller_of(scope), prompt=lambda: sum(map(tokens_of, wanted.inputs))
            ) as passage,
        ):
            response.follow(passage)
            await response.end(await self._embed(wanted, passage))

    async def _embed(self, wanted: Embedding, passage: Passage) -> bytes:
        try:
            answer = await self._exchanges.ask(
                wanted.model, lambda target: embeddings_call(target, wanted), passage=passage
            )
        except (EngineBroken, EngineRefused) as error:
            raise embeddings_error(error) from None
        passage.ended(embeddings_usage(answer), None, self._services.clock.monotonic())
        return embeddings_answer(answer, wanted)


def endpoints(services: Services, generator: Generator, exchanges: PlainExchanges) -> dict[str, ASGIApp]:
    """Path -> what answers a POST there."""
    return {"/v1/embeddings": EmbeddingsEndpoint(services, generator, exchanges)}
