"""One question to an engine that is answered by one JSON object: embeddings, tokens. No stream, no generation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from web.errors import EngineBroken
from web.exchange import Exchange, Patience
from web.heartbeat import Heartbeat
from web.record import current
from web.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import Callable

    from web.dialects.engines import EngineCall
    from web.engines import EngineTarget
    from web.passage import Passage
    from web.services import Services

    Question = Callable[[EngineTarget], EngineCall]


class PlainExchanges:
    """Asks engines, with the patience that a plain caller has: a cold one is waited for, up to the plain deadline.

    Holds no connection before the first question, nor after `close`.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._upstream = Upstream(clock=services.clock)

    async def ask(
        self, model: str, question: Question,
        *, affinity: str | None = None, passage: Passage | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """The engine's answer. `question` is put in the words of the engine that serves `model`, which is woken for it.

        `passage`: is told how it goes, as an observation, but for its end: there may be further questions.
        Cancelled (the caller has left), it closes the connection to the engine. Raises ModelNotFound,
        EngineStillBooting, EngineOverloaded, EngineRefused (what the engine calls a bad request), EngineBroken.
        """
        services, engines = self._services, self._services.engines
        clock = services.clock
        target = engines.resolve(model)
        configured = services.settings.models.find(model)
        patience = Patience(boot=services.settings.web.plain_deadline, silence=services.silence_seconds)
        exchange = Exchange(
            upstream=self._upstream, clock=clock, target=target, call=question(target),
            affinity=affinity, patience=patience, again=lambda: engines.resolve(model),
            arrived=None if passage is None else passage.arrived,
            visit=None if configured is None else services.sightings.begin(configured.id, clock.monotonic()),
            sent=None if passage is None else passage.sent,
            headers=None if (record := current.get()) is None else record.headers(),
        )  # fmt: skip

        async def on_wait() -> None:
            if passage is not None:
                passage.waiting(exchange.phase, clock.monotonic())

        pause = patience.silence / 2
        with exchange, Heartbeat(exchange, None, clock=clock, pause=pause, status=lambda: ""):
            await exchange.open(on_wait=on_wait)
            if passage is not None:
                passage.opened(clock.monotonic())
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
