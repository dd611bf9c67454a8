"""From an internal request to an answer on the wire: as a stream that is never silent, or as one object."""

from __future__ import annotations

import logging
import secrets
from functools import partial
from typing import TYPE_CHECKING

from web.adapters import served_name
from web.answer_guard import AnswerCut
from web.capabilities import check_generation
from web.dialects.engines import engine_call
from web.dialects.translation import StreamedAnswer, WholeAnswer
from web.errors import ServiceError, to_wire
from web.exchange import Exchange, Patience
from web.forwarding import Collecting, Forwarding
from web.heartbeat import Heartbeat
from web.observation import Unobserved
from web.record import current
from web.tracing import call_attributes
from web.upstream import Upstream

if TYPE_CHECKING:
    from infra.settings import Model
    from web.dialects.base import AnswerBuilder, StreamRenderer
    from web.dialects.request import GenerationRequest
    from web.dialects.translation import Translation
    from web.engines import EngineTarget
    from web.observation import Observation
    from web.outlets import Outlet
    from web.services import Services
    from web.states import ModelStates

log = logging.getLogger(__name__)


class Relay:
    """Serves requests from engines. Holds no connection before the first request, nor after `close`."""

    def __init__(self, services: Services, *, states: ModelStates | None = None) -> None:
        """`states`: what those who wait for an engine are told of its boot."""
        self._services = services
        self._states = states
        self._clock = services.clock
        self._web = services.settings.web
        self._upstream = Upstream(clock=services.clock)
        silence = services.silence_seconds
        self._stream_patience = Patience(boot=self._web.boot_deadline, silence=silence)
        self._plain_patience = Patience(boot=self._web.plain_deadline, silence=silence)

    async def tell(
        self, request: GenerationRequest, renderer: StreamRenderer, outlet: Outlet,
        *, observation: Observation | None = None, rid: str | None = None, arrived: float | None = None,
    ) -> None:  # fmt: skip
        """Stream the answer to `outlet`. Cancelled (the caller has left), it ends the engine's work.

        `arrived`: when the request came, on the clock's monotonic scale, if that was before. Raises ServiceError as
        long as nothing was sent; later failures are told to the outlet.
        """
        answer = StreamedAnswer(request, renderer)
        observation = observation or Unobserved()
        failed: BaseException | None = None
        try:
            with self._exchange(request, rid, answer, arrived, observation) as exchange:
                failed = await self._stream(exchange, answer, outlet, observation)
        except BaseException as error:
            failed = error
            raise
        finally:
            observation.ended(answer.usage, failed, self._clock.monotonic())
            failed = None  # its traceback holds all of this

    async def collect(
        self, request: GenerationRequest, builder: AnswerBuilder,
        *, observation: Observation | None = None, rid: str | None = None, arrived: float | None = None,
    ) -> bytes:  # fmt: skip
        """The whole answer. Cancelled (the caller has left), it ends the engine's work. Raises ServiceError."""
        answer = WholeAnswer(request, builder)
        observation = observation or Unobserved()
        failed: BaseException | None = None
        try:
            with (
                self._exchange(request, rid, answer, arrived, observation) as exchange,
                self._heartbeat(exchange, None),
            ):
                await self._open(exchange, observation, None)
                await Collecting(exchange, answer, clock=self._clock, observation=observation).run()
            return answer.body()
        except BaseException as error:
            failed = error
            raise
        finally:
            observation.ended(answer.usage, failed, self._clock.monotonic())
            failed = None  # its traceback holds all of this

    async def close(self) -> None:
        await self._upstream.close()

    def _exchange(
        self, request: GenerationRequest, rid: str | None, answer: Translation, arrived: float | None,
        observation: Observation,
    ) -> Exchange:  # fmt: skip
        rid = rid or secrets.token_hex(16)
        engines = self._services.engines
        models = self._services.settings.models
        model = models.find(request.model)
        if model is not None:
            check_generation(model, request, fetched=self._services.settings.security.fetch_images)
        target = engines.resolve(request.model)
        named = served_name(request.model, models, target)
        call = engine_call(request, kind=target.kind, model=named, rid=rid)
        answer.filter = call.filter
        return Exchange(
            upstream=self._upstream, clock=self._clock, target=target,
            patience=self._stream_patience if request.stream else self._plain_patience,
            affinity=request.affinity or rid, call=call, arrived=arrived, again=lambda: engines.resolve(request.model),
            visit=None if model is None else self._services.sightings.begin(model.id, self._clock.monotonic()),
            sent=observation.sent, headers=self._told(request, model, target, rid),
        )  # fmt: skip

    def _told(
        self, request: GenerationRequest, model: Model | None, target: EngineTarget, rid: str
    ) -> dict[str, str]:  # fmt: skip
        """The headers that tell an engine of what it is asked for."""
        record = current.get()
        if record is None:
            return {}
        record.rid, record.stream = rid, request.stream
        if record.trace is not None and model is not None:
            told = call_attributes(request, name=model.name, kind=target.kind, rid=rid)
            record.trace.call(f"{told['gen_ai.operation.name']} {model.name}", told, self._clock.monotonic())
        return record.headers()

    async def _open(self, exchange: Exchange, observation: Observation, out: Outlet | None) -> None:
        async def on_wait() -> None:
            observation.waiting(exchange.phase, self._clock.monotonic())
            if out is not None:
                await out.comment(self._status(exchange))

        await exchange.open(on_wait=on_wait)
        observation.opened(self._clock.monotonic())

    async def _stream(
        self, exchange: Exchange, answer: StreamedAnswer, out: Outlet, observation: Observation
    ) -> Exception | None:
        """Returns the failure that the caller was told of in the stream. Raises one while nothing was sent."""
        try:
            with self._heartbeat(exchange, out):
                await self._open(exchange, observation, out)
                pause = self._services.coalesce_seconds
                await Forwarding(exchange, answer, out, clock=self._clock, pause=pause, observation=observation).run()
        except Exception as error:
            # What a guard has cut is a complete answer, though nothing of it may have been sent yet.
            if not (out.begun or isinstance(error, AnswerCut)):
                raise
            if not isinstance(error, ServiceError):
                log.exception("a stream failed")
            await out.end(answer.error(to_wire(error)))
            return error.with_traceback(None)  # that holds the request, and is held by it
        return None

    def _heartbeat(self, exchange: Exchange, out: Outlet | None) -> Heartbeat:
        pause = min(self._web.heartbeat_interval, self._services.silence_seconds) / 2
        return Heartbeat(exchange, out, clock=self._clock, pause=pause, status=partial(self._status, exchange))

    def _status(self, exchange: Exchange) -> str:
        """What a caller who hears nothing yet is told: `booting (weights) 12.3 s`."""
        doing: str = exchange.phase
        if doing == "booting" and self._states is not None and exchange.visit is not None:
            phase = self._states.last(exchange.visit.model).phase
            doing += f" ({phase})" if phase else ""
        return f"{doing} {exchange.waited:.1f} s"
