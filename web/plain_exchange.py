"""One question to an engine that is answered by one JSON object: embeddings, tokens. No stream, no generation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from web.errors import EngineBroken
from web.exchange import Exchange, Patience
from web.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import Callable

    from web.dialects.engines import EngineCall
    from web.engines import EngineTarget
    from web.services import Services

    Question = Callable[[EngineTarget], EngineCall]


class PlainExchanges:
    """Asks engines, with the patience that a plain caller has: a cold one is waited for, up to the plain deadline.

    Holds no connection before the first question, nor after `close`.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._upstream = Upstream(clock=services.clock)

    async def ask(self, model: str, question: Question, *, affinity: str | None = None) -> dict[str, Any]:
        """The engine's answer. `question` is put in the words of the engine that serves `model`, which is woken for it.

        Cancelled (the caller has left), it closes the connection to the engine. Raises ModelNotFound,
        EngineStillBooting, EngineOverloaded, EngineRefused (what the engine calls a bad request), EngineBroken.
        """
        target = self._services.engines.resolve(model)
        patience = Patience(boot=self._services.settings.web.plain_deadline, silence=self._services.silence_seconds)
        exchange = Exchange(
            upstream=self._upstream, clock=self._services.clock, target=target, call=question(target),
            affinity=affinity, patience=patience,
        )  # fmt: skip
        async with exchange:
            await exchange.open()
            body = await exchange.whole()
        try:
            answer = orjson.loads(body)
        except orjson.JSONDecodeError:
            answer = None
        if not isinstance(answer, dict):
            raise EngineBroken("The engine's answer is not a JSON object.", code="engine_protocol")
        return answer

    async def close(self) -> None:
        await self._upstream.close()
