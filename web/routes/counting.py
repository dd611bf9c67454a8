"""How many tokens a request's prompt has: asked in each dialect that has a question for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from web.asgi import Presence, read_body
from web.caller import caller_of
from web.plain_response import PlainResponse

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Receive, Scope, Send

    from web.dialects.request import GenerationRequest
    from web.generation import Generator
    from web.services import Services
    from web.tokens import Tokens


class CountEndpoint:
    """A body that `asked` understands, answered by what `render` makes of its number of tokens. The model's engine
    counts: a cold one is woken."""

    def __init__(
        self, services: Services, generator: Generator, tokens: Tokens,
        *, render: Callable[[int], bytes], parse: Callable[[bytes], GenerationRequest] | None = None,
    ) -> None:  # fmt: skip
        self._clock = services.clock
        self._web = services.settings.web
        self._generator = generator
        self._tokens = tokens
        self._parse = parse
        self._render = render

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = await self.asked(await read_body(scope, receive, limit=self._web.max_body_bytes), scope)
        async with (
            Presence(receive, scope),
            PlainResponse(send, clock=self._clock, web=self._web) as response,
            self._generator.place(request.model, caller_of(scope)) as passage,
        ):
            response.follow(passage)
            count = await self._tokens.along(passage).count_tokens(request)
            await response.end(self._render(count))

    async def asked(self, body: bytes, scope: Scope) -> GenerationRequest:  # noqa: ARG002
        """The request whose prompt is to be counted."""
        if self._parse is None:
            raise NotImplementedError
        return self._parse(body)
