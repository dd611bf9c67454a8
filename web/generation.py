"""From a caller's request for tokens to its answer: guarded, limited, admitted, relayed and observed, in this order.

Every dialect and every transport comes through here, so that what holds for one holds for all.
"""

from __future__ import annotations

import contextlib
import functools
import os
from typing import TYPE_CHECKING

from web.admission import Waiting, lanes
from web.answer_guard import AnswerCut
from web.asgi import Presence
from web.caller import caller_of
from web.draining import Draining
from web.errors import ModelNotFound, ReaderStalled, ServiceError, to_wire
from web.extensions import connection_of
from web.gate import Gate
from web.guards import all_prompts_tokens
from web.limits import MemoryLimiter
from web.metrics import UNKNOWN
from web.outlets import StreamingResponse
from web.passage import Passage
from web.plain_response import PlainResponse
from web.record import current
from web.spoken import Spoken
from web.usage import Meter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.types import Receive, Scope, Send

    from web.asgi import Header
    from web.caller import Caller
    from web.dialects.base import AnswerBuilder, Dialect, StreamRenderer
    from web.dialects.request import GenerationRequest, Kind
    from web.metrics import Metrics
    from web.outlets import Outlet
    from web.relay import Relay
    from web.services import Services

LAST_WORDS_SECONDS = 2.0
"""For a caller to take the error that ends a stream; then the connection is cut."""


class Generator:
    """Belongs to one event loop once it serves; made without one, so that a memory snapshot may hold it."""

    def __init__(
        self, relay: Relay, services: Services, *, gate: Gate | None = None, metrics: Metrics | None = None,
        draining: Draining | None = None, meter: Meter | None = None,
    ) -> None:  # fmt: skip
        self._relay = relay
        self._meter = meter or Meter.of(services)
        self._gate = gate or Gate(services, MemoryLimiter(services.settings.limits, services.clock), meter=self._meter)
        self._clock = services.clock
        self._web = services.settings.web
        self._models = services.settings.models
        self._log_prompts = services.settings.observability.log_prompts
        self._lanes = lanes(services.settings, services.clock, engine_containers=services.engine_containers)
        self._metrics = metrics
        if metrics is not None:
            metrics.watch(self._lanes)
        self._draining = draining or Draining(clock=services.clock, grace=self._web.drain_seconds)
        pause = self._web.heartbeat_interval / 2
        self._stream_waiting = Waiting(boot=self._web.boot_deadline, busy=self._web.queue_timeout, pause=pause)
        self._plain_waiting = Waiting(boot=self._web.plain_deadline, busy=self._web.queue_timeout, pause=pause)

    async def serve(
        self, request: GenerationRequest, dialect: Dialect, scope: Scope, receive: Receive | None, send: Send,
        *, headers: list[Header] | None = None,
    ) -> None:  # fmt: skip
        """Answer over HTTP, streamed or not, whoever `caller_of(scope)` is. Returns early when the caller leaves.
        `receive`: None where that is somebody else's to notice, who then cancels.

        The request's body must have been read. Raises ServiceError as long as nothing of the answer was sent; an error
        that it raises later is a connection to be cut.
        """
        caller = caller_of(scope)
        rid, created = os.urandom(16).hex(), int(self._clock.time())
        async with contextlib.nullcontext() if receive is None else Presence(receive, scope):
            if request.stream:
                renderer = dialect.stream(request, rid=rid, created=created)
                outlet = StreamingResponse(send, headers=headers, connection=connection_of(scope))
                await self.tell(request, renderer, outlet, caller, rid=rid)
            else:
                builder = dialect.answer(request, rid=rid, created=created)
                async with PlainResponse(send, clock=self._clock, web=self._web, headers=headers) as response:
                    body = await self.collect(request, builder, caller, rid=rid, response=response)
                    await response.end(body)

    async def tell(
        self, request: GenerationRequest, renderer: StreamRenderer, outlet: Outlet, caller: Caller,
        *, rid: str | None = None,
    ) -> None:  # fmt: skip
        """Stream the answer to `outlet`; cancel to end it. Raises ServiceError as long as nothing was sent, and
        ReaderStalled whenever the outlet's connection is to be cut."""
        passage = self._passage(request.model, request.kind, caller, lambda: all_prompts_tokens(request), outlet)
        try:
            with passage, await self._gate.enter(request, caller) as entry, contextlib.ExitStack() as telling:
                renderer = entry.stream(renderer)
                if self._log_prompts:
                    telling.enter_context((spoken := Spoken()).telling(entry.request))
                    renderer = spoken.stream(renderer)
                await self._admit(passage, caller, self._stream_waiting, outlet)
                await self._relay.tell(
                    entry.request, renderer, outlet, observation=entry.watching(passage), rid=rid,
                    arrived=passage.arrived,
                )  # fmt: skip
        except ServiceError as error:
            if not outlet.begun or isinstance(error, ReaderStalled):
                raise
            try:
                async with self._clock.timeout(LAST_WORDS_SECONDS):
                    await outlet.end(renderer.error(to_wire(error)))
            except TimeoutError:
                raise ReaderStalled(LAST_WORDS_SECONDS) from error

    async def collect(
        self, request: GenerationRequest, builder: AnswerBuilder, caller: Caller,
        *, rid: str | None = None, response: PlainResponse | None = None,
    ) -> bytes:  # fmt: skip
        """The whole answer, as `builder` makes it; cancel to end it. `response`: where it will go, if it is one that
        may have to begin before. Raises ServiceError."""
        with self._passage(request.model, request.kind, caller, lambda: all_prompts_tokens(request)) as passage:
            if response is not None:
                response.follow(passage)
            with await self._gate.enter(request, caller) as entry, contextlib.ExitStack() as telling:
                builder = entry.answer(builder)
                if self._log_prompts:
                    telling.enter_context((spoken := Spoken()).telling(entry.request))
                    builder = spoken.answer(builder)
                await self._admit(passage, caller, self._plain_waiting)
                watching = entry.watching(passage)
                try:
                    return await self._relay.collect(
                        entry.request, builder, observation=watching, rid=rid, arrived=passage.arrived
                    )
                except AnswerCut:
                    return builder.body(None)

    @contextlib.asynccontextmanager
    async def place(
        self, model: str, caller: Caller, *, prompt: Callable[[], int] | None = None
    ) -> AsyncIterator[Passage]:
        """A place at the engines of the model that `model` names, for a question that is answered by one object
        (embeddings, tokens): with the queue, the deadlines and the draining of a plain answer. Raises ServiceError.

        `prompt`: about how many tokens are asked about, where they are usage; the passage is told of it by `ended`."""
        with self._passage(model, None, caller, prompt) as passage:
            await self._gate.ask(model, caller, spends=prompt is not None)
            await self._admit(passage, caller, self._plain_waiting)
            yield passage

    def _passage(
        self, label: str, kind: Kind | None, caller: Caller, prompt: Callable[[], int] | None,
        outlet: Outlet | None = None,
    ) -> Passage:  # fmt: skip
        """`prompt`: about how many tokens the prompt has, should no engine say so; None: it is no usage."""
        model = self._models.find(label)
        if model is None:
            if kind is not None and self._metrics is not None:
                unknown = self._metrics.of(UNKNOWN, kind)
                unknown.requests.value += 1
                unknown.error(404)
            raise ModelNotFound(label)
        if (record := current.get()) is not None:
            record.model = model.id
        counted = None if self._metrics is None else self._metrics.of(model.id, kind or "chat")
        return Passage(
            lane=self._lanes[model.id], record=record, metrics=None if kind is None else counted, cold=counted,
            clock=self._clock, web=self._web, draining=self._draining, outlet=outlet,
            charge=None if prompt is None else functools.partial(self._meter.charge, caller, model.id, prompt),
        )  # fmt: skip

    async def _admit(self, passage: Passage, caller: Caller, waiting: Waiting, outlet: Outlet | None = None) -> None:
        async def on_wait(before: int) -> None:
            if outlet is not None:
                waited = self._clock.monotonic() - passage.arrived
                await outlet.comment(f"queued {before + 1} {waited:.1f} s")

        await passage.enter(caller.identity, waiting=waiting, on_wait=on_wait)
