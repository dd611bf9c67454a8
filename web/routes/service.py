"""`POST /completions` and `POST /chat/completions`: the service's own bodies, and OpenAI's by one rule (see
`web.dialects.service`). Plain ASGI, since every token passes here."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from web.asgi import Presence, read_body
from web.caller import caller_of
from web.dialects.overheard import ListeningDialect
from web.dialects.service import chat_dialect, parse_chat, parse_text, text_dialect
from web.dialects.service_answer import Elapsed, ServiceDialect, ServiceStream
from web.dialects.service_device import device_headers, device_of, fallback
from web.dialects.validation import json_object
from web.errors import ModelNotFound, to_wire
from web.session_errors import SessionDeleted
from web.sessions import SessionKey, owner_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from infra.settings import Device, Settings
    from web.asgi import Header
    from web.conversations import Conversations, Turn
    from web.dialects.request import GenerationRequest
    from web.dialects.service import Asked, Json, Spoken
    from web.generation import Generator
    from web.services import Services

log = logging.getLogger(__name__)


def endpoints(
    services: Services, generator: Generator, conversations: Conversations, *, openai: Mapping[str, ASGIApp]
) -> dict[str, ASGIApp]:
    """Path -> what answers a POST there. `openai`: the same for OpenAI's paths, which take over OpenAI's bodies."""
    chat = ServiceEndpoint(
        services, generator, conversations, parse_chat, chat_dialect, openai=openai["/v1/chat/completions"]
    )
    text = ServiceEndpoint(
        services, generator, conversations, parse_text, text_dialect, openai=openai["/v1/completions"]
    )
    return {"/chat/completions": chat, "/completions": text}


class ServiceEndpoint:
    """An ASGI endpoint for two dialects, of which `whose` tells the one that a body is in."""

    def __init__(
        self, services: Services, generator: Generator, conversations: Conversations,
        parse: Callable[[Json], Asked], whose: Callable[[Json], Spoken], *, openai: ASGIApp,
    ) -> None:  # fmt: skip
        self._settings = services.settings
        self._clock = services.clock
        self._generator = generator
        self._conversations = conversations
        self._parse = parse
        self._whose = whose
        self._openai = openai
        self._warned: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        elapsed = Elapsed(self._clock.monotonic)
        body = await read_body(scope, receive, limit=self._settings.web.max_body_bytes)
        given = json_object(body)
        if self._whose(given) == "openai":
            await self._openai(scope, _read_again(body, receive), send)
            return
        asked = self._parse(given)
        headers = device_told(asked, self._settings, warned=self._warned)
        dialect = ServiceDialect(elapsed, events=asked.events)
        if asked.session_id is None:
            await self._generator.serve(asked.request, dialect, scope, receive, send, headers=headers)
            return
        key = SessionKey(owner_of(caller_of(scope)), asked.session_id)
        out = SettledFirst(send)

        async def respond(request: GenerationRequest, turn: Turn) -> None:
            out.turn = turn
            heard = ListeningDialect(turn.heard, dialect)
            await self._generator.serve(request, heard, scope, None, out, headers=headers)

        try:
            async with Presence(receive, scope):  # who leaves while another turn is under way has not asked
                await self._conversations.speak(key, asked, respond)
        except SessionDeleted as error:
            if not out.begun or out.ended:
                raise
            last = ServiceStream(elapsed, events=False).error(to_wire(error))
            await send({"type": "http.response.body", "body": last, "more_body": False})


class SettledFirst:
    """An ASGI `send` that lets the first bytes of an answer leave only when its question is kept, and the last ones
    only when the answer is."""

    def __init__(self, send: Send) -> None:
        self.turn: Turn | None = None
        self.begun = False
        self.ended = False
        self._send = send

    async def __call__(self, message: Message) -> None:
        last = message["type"] == "http.response.body" and not message.get("more_body", False)
        if self.turn is not None:
            await (self.turn.settle() if last else self.turn.claimed())
        await self._send(message)
        self.begun = True
        self.ended = last


def device_told(asked: Asked, settings: Settings, *, warned: set[str]) -> list[Header]:
    """The headers that tell where the answer is computed. A device that was wanted and is not there is logged."""
    there, warning = device_for(asked, settings, warned=warned)
    return device_headers(there, warning)


def device_for(asked: Asked, settings: Settings, *, warned: set[str]) -> tuple[Device, str | None]:
    """Where the answer is computed, and what to warn of. Raises ModelNotFound. `warned`: what the log has said already,
    which it says once for each model and device."""
    model = settings.models.find(asked.request.model)
    if model is None:
        raise ModelNotFound(asked.request.model)
    there = device_of(model, settings)
    warning = fallback(asked.device, there, model=model.id)
    if warning is not None and warning not in warned:
        warned.add(warning)
        log.warning("%s", warning)
    return there, warning


def _read_again(body: bytes, receive: Receive) -> Receive:
    """A `receive` that begins with a body that was read already."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
