"""From an internal request to an answer on the wire: as a stream that is never silent, or as one object."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from functools import partial
from typing import TYPE_CHECKING

from web.answer_guard import AnswerCut
from web.capabilities import check_generation
from web.dialects.engines import engine_call
from web.dialects.translation import StreamedAnswer, WholeAnswer
from web.errors import ServiceError, to_wire
from web.exchange import Exchange, Patience
from web.forwarding import Collecting, Forwarding
from web.observation import Unobserved
from web.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from web.dialects.base import AnswerBuilder, StreamRenderer
    from web.dialects.request import GenerationRequest
    from web.dialects.translation import Translation
    from web.observation import Observation
    from web.outlets import Outlet
    from web.services import Services
    from web.states import ModelStates

log = logging.getLogger(__name__)

FIRST_SILENCE_SECONDS = 2.0
"""How long a streaming caller's status is held back, so that an engine's quick refusal can still be a status."""


class Relay:
    """Serves requests from engines. Holds no connection before the first request, nor after `close`."""

    def __init__(self, services: Services, *, states: ModelStates | None = None) -> None:
        """`states`: what those who wait for an engine are told of its boot."""
        self._services = services
        self._states = states
        self._clock = services.clock
        self._web = services.settings.web
        self._upstream = Upstream(clock=services.clock)

    async def tell(
        self, request: GenerationRequest, renderer: StreamRenderer, outlet: Outlet,
        *, observation: Observation | None = None, rid: str | None = None, arrived: float | None = None,
    ) -> None:  # fmt: skip
        """Stream the answer to `outlet`. Cancelled (the caller has left), it ends the engine's work.

        `arrived`: when the request came, on the clock's monotonic scale, if that was before. Raises ServiceError as
        long as nothing was sent; later failures are told to the outlet.
        """
        answer = StreamedAnswer(request, renderer)
        rid = rid or secrets.token_hex(16)
        watched = self._observed(answer, observation or Unobserved())
        async with watched as watch, self._exchange(request, rid, answer, arrived) as exchange:
            await self._stream(exchange, answer, outlet, watch)

    async def collect(
        self, request: GenerationRequest, builder: AnswerBuilder,
        *, observation: Observation | None = None, rid: str | None = None, arrived: float | None = None,
    ) -> bytes:  # fmt: skip
        """The whole answer. Cancelled (the caller has left), it ends the engine's work. Raises ServiceError."""
        answer = WholeAnswer(request, builder)
        rid = rid or secrets.token_hex(16)
        watched = self._observed(answer, observation or Unobserved())
        async with watched as watch, self._exchange(request, rid, answer, arrived) as exchange:
            return await self._answer(exchange, answer, watch)

    async def close(self) -> None:
        await self._upstream.close()

    def _exchange(self, request: GenerationRequest, rid: str, answer: Translation, arrived: float | None) -> Exchange:
        engines = self._services.engines
        model = self._services.settings.models.find(request.model)
        if model is not None:
            check_generation(model, request)
        target = engines.resolve(request.model)
        patience = Patience(
            boot=self._web.boot_deadline if request.stream else self._web.plain_deadline,
            silence=self._services.silence_seconds,
        )
        call = engine_call(request, kind=target.kind, model=target.model, rid=rid)
        answer.filter = call.filter
        return Exchange(
            upstream=self._upstream, clock=self._clock, target=target, patience=patience, affinity=request.affinity,
            call=call, arrived=arrived, again=lambda: engines.resolve(request.model),
            visit=None if model is None else self._services.sightings.begin(model.id, self._clock.monotonic()),
        )  # fmt: skip

    @contextlib.asynccontextmanager
    async def _observed(self, answer: Translation, observation: Observation) -> AsyncIterator[_Watch]:
        """Whatever happens to it, the request's end is told."""
        watch = _Watch(observation)
        try:
            yield watch
        except BaseException as error:
            watch.error = error
            raise
        finally:
            observation.ended(answer.usage, watch.error, self._clock.monotonic())

    async def _answer(self, exchange: Exchange, answer: WholeAnswer, watch: _Watch) -> bytes:
        async with self._watched(exchange, None):
            await self._open(exchange, watch, None)
            await Collecting(exchange, answer, clock=self._clock, note=partial(watch.heard, answer)).run()
        return answer.body()

    async def _open(self, exchange: Exchange, watch: _Watch, out: Outlet | None) -> None:
        async def on_wait() -> None:
            watch.observation.waiting(exchange.phase, self._clock.monotonic())
            if out is not None:
                await out.comment(self._status(exchange))

        await exchange.open(on_wait=on_wait)
        watch.observation.opened(self._clock.monotonic())

    async def _stream(self, exchange: Exchange, answer: StreamedAnswer, out: Outlet, watch: _Watch) -> None:
        try:
            async with self._watched(exchange, out):
                await self._open(exchange, watch, out)
                note = partial(watch.heard, answer)
                pause = self._services.coalesce_seconds
                await Forwarding(exchange, answer, out, clock=self._clock, pause=pause, note=note).run()
        except Exception as error:
            # What a guard has cut is a complete answer, though nothing of it may have been sent yet.
            if not (out.begun or isinstance(error, AnswerCut)):
                raise
            watch.error = error
            if not isinstance(error, ServiceError):
                log.exception("a stream failed")
            await out.end(answer.error(to_wire(error)))

    @contextlib.asynccontextmanager
    async def _watched(self, exchange: Exchange, out: Outlet | None) -> AsyncIterator[None]:
        """Meanwhile: comments for a caller who hears nothing, and an end to an engine that says nothing."""
        beat = asyncio.create_task(self._beat(exchange, out), name="heartbeat")
        try:
            yield
        finally:
            beat.cancel()

    async def _beat(self, exchange: Exchange, out: Outlet | None) -> None:
        # A comment goes where nothing was written for a whole pause: so a silence is shorter than two of them.
        pause = min(self._web.heartbeat_interval, self._services.silence_seconds) / 2
        await self._clock.sleep(min(FIRST_SILENCE_SECONDS, pause))
        while True:
            exchange.check_silence()
            if out is not None:
                if not out.written:
                    await out.comment(self._status(exchange))
                out.written = False
            await self._clock.sleep(pause)

    def _status(self, exchange: Exchange) -> str:
        """What a caller who hears nothing yet is told: `booting (weights) 12.3 s`."""
        doing: str = exchange.phase
        if doing == "booting" and self._states is not None and exchange.visit is not None:
            phase = self._states.last(exchange.visit.model).phase
            doing += f" ({phase})" if phase else ""
        return f"{doing} {exchange.waited:.1f} s"


class _Watch:
    """One request's observation, and what it still has to be told."""

    def __init__(self, observation: Observation) -> None:
        self.observation = observation
        self.error: BaseException | None = None
        self._heard = 0

    def heard(self, answer: Translation, now: float) -> None:
        if (pieces := answer.heard - self._heard) > 0:
            self._heard = answer.heard
            self.observation.heard(pieces, now)
