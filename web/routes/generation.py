"""`POST /v1/chat/completions` and `POST /v1/completions`: plain ASGI, since every token passes here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from web.asgi import read_body
from web.dialects.openai import parse_chat, parse_text
from web.dialects.openai_answer import OpenAIDialect

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Receive, Scope, Send

    from web.dialects.base import Dialect
    from web.dialects.request import GenerationRequest
    from web.generation import Generator


class GenerationEndpoint:
    """An ASGI endpoint: a body that `parse` understands, answered in `dialect`."""

    def __init__(
        self, generator: Generator, parse: Callable[[bytes], GenerationRequest], dialect: Dialect,
        *, max_body_bytes: int,
    ) -> None:  # fmt: skip
        self._generator = generator
        self._parse = parse
        self._dialect = dialect
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await read_body(scope, receive, limit=self._max_body_bytes)
        await self._generator.serve(self._parse(body), self._dialect, scope, receive, send)


def endpoints(generator: Generator, *, max_body_bytes: int) -> dict[str, ASGIApp]:
    """Path -> what answers a POST there."""
    dialect = OpenAIDialect()
    return {
        "/v1/chat/completions": GenerationEndpoint(generator, parse_chat, dialect, max_body_bytes=max_body_bytes),
        "/v1/completions": GenerationEndpoint(generator, parse_text, dialect, max_body_bytes=max_body_bytes),
    }
