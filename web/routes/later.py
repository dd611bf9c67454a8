"""The endpoints that carry tokens in dialects of which a container may never hear: loaded when they are first asked."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from web.lazily import Lazily

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.types import ASGIApp

    from web.generation import Generator
    from web.plain_exchange import PlainExchanges
    from web.response_turns import ResponseTurns
    from web.services import Services


def later(
    services: Services, generator: Generator, exchanges: PlainExchanges, turns: ResponseTurns
) -> dict[str, Lazily]:
    """Path -> what answers a POST to it."""

    def messages() -> Mapping[str, ASGIApp]:
        from web.routes import messages
        from web.tokens import Tokens

        return messages.endpoints(services, generator, Tokens(exchanges))

    def responses() -> Mapping[str, ASGIApp]:
        from web.routes import responses
        from web.tokens import Tokens

        return responses.endpoints(services, generator, Tokens(exchanges), turns)

    def embeddings() -> Mapping[str, ASGIApp]:
        from web.routes import embeddings

        return embeddings.endpoints(services, generator, exchanges)

    def tokenize() -> Mapping[str, ASGIApp]:
        from web.routes import tokenize
        from web.tokens import Tokens

        return tokenize.endpoints(services, generator, Tokens(exchanges))

    paths: dict[Callable[[], Mapping[str, ASGIApp]], tuple[str, ...]] = {
        messages: ("/v1/messages", "/v1/messages/count_tokens"),
        responses: ("/v1/responses", "/v1/responses/input_tokens"),
        embeddings: ("/v1/embeddings",),
        tokenize: ("/tokenize", "/detokenize", "/v1/tokenize", "/v1/detokenize"),
    }
    return {path: Lazily(functools.partial(_one_of, make, path)) for make, those in paths.items() for path in those}


def _one_of(make: Callable[[], Mapping[str, ASGIApp]], path: str) -> ASGIApp:
    return make()[path]
