"""What every request for tokens passes before it may wait for an engine: its key's scope and models, the limits and the
guards. Without an answer guard and a limit of tokens, nothing of this is left once a request has passed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from web.answer_guard import AnswerCut, GuardedAnswer, GuardedStream, PatternGuard
from web.auth import require_model, require_scope
from web.guards import ConfiguredPromptGuard, prompt_tokens, tokens_at_most
from web.observation import Observation

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from web.answer_guard import AnswerGuard
    from web.caller import Caller
    from web.dialects.base import AnswerBuilder, StreamRenderer
    from web.dialects.pieces import Usage
    from web.dialects.request import GenerationRequest
    from web.exchange import Phase
    from web.limits import Limiter, Reservation
    from web.services import Services
    from web.usage import Meter


class CountingObservation(Observation, Protocol):
    """An observation that knows how many pieces it has heard."""

    pieces: int


class Gate:
    """Made of the settings, where `services` does not bring guards of its own."""

    def __init__(self, services: Services, limiter: Limiter, *, meter: Meter) -> None:
        settings = services.settings
        self._models = settings.models
        self._limiter = limiter
        self._meter = meter
        self._prompts = services.prompt_guard or ConfiguredPromptGuard(settings)
        self._answers = services.answer_guard
        if self._answers is None and settings.guards.blocked_answers:
            self._answers = PatternGuard(settings.guards)

    async def enter(self, request: GenerationRequest, caller: Caller) -> Entry:
        """Raises PermissionDenied, InvalidRequest, RateLimited, BudgetExhausted."""
        require_scope(caller, "inference")
        require_model(caller, self._models.find(request.model))
        await self._meter.check(caller)
        await self._count(caller)
        request = self._prompts.check(request)
        reservation = None if caller.unhurried else await self._limiter.reserve(caller, tokens_at_most(request))
        return Entry(request, guard=self._answers, reservation=reservation)

    async def ask(self, model: str, caller: Caller, *, spends: bool) -> None:
        """The same for what costs no tokens of an answer; `spends`: and yet is usage. Raises PermissionDenied,
        RateLimited, BudgetExhausted."""
        require_scope(caller, "inference")
        require_model(caller, self._models.find(model))
        if spends:
            await self._meter.check(caller)
        await self._count(caller)

    async def _count(self, caller: Caller) -> None:
        if not caller.counted:
            await self._limiter.take(caller)


class Entry:
    """A request that has passed, as a context around what is done for it: at its end the tokens that were set aside are
    settled. `request`: as the guards let it through."""

    def __init__(
        self, request: GenerationRequest, *, guard: AnswerGuard | None, reservation: Reservation | None
    ) -> None:
        self.request = request
        self._guard = guard
        self._reservation = reservation
        self._watched: _Watched | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._reservation is not None:
            self._reservation.settle(self._watched.used(self.request) if self._watched is not None else 0)

    def stream(self, renderer: StreamRenderer) -> StreamRenderer:
        """The renderer, behind the answer guard if there is one: it raises AnswerCut then."""
        return renderer if self._guard is None else GuardedStream(renderer, self._guard.watch(self.request))

    def answer(self, builder: AnswerBuilder) -> AnswerBuilder:
        """Likewise."""
        return builder if self._guard is None else GuardedAnswer(builder, self._guard.watch(self.request))

    def watching(self, observation: CountingObservation) -> Observation:
        """What the relay is to tell, so that `observation` hears of it too."""
        if self._guard is None and self._reservation is None:
            return observation
        self._watched = _Watched(observation)
        return self._watched


class _Watched:
    """Passes on what it is told, and remembers what the request has cost."""

    def __init__(self, inner: CountingObservation) -> None:
        self._inner = inner
        self._opened = False
        self._usage: Usage | None = None
        self.heard = inner.heard  # for every piece of every answer: without a step in between

    def waiting(self, phase: Phase, now: float) -> None:
        self._inner.waiting(phase, now)

    def sent(self, now: float | None) -> None:
        self._inner.sent(now)

    def opened(self, now: float) -> None:
        self._opened = True
        self._inner.opened(now)

    def ended(self, usage: Usage | None, error: BaseException | None, now: float) -> None:
        self._usage = usage
        # To the caller, an answer that was cut is a complete one.
        self._inner.ended(usage, None if isinstance(error, AnswerCut) else error, now)

    def used(self, request: GenerationRequest) -> int:
        """Tokens: as the engine has counted them, or of an answer that was broken off as far as it was heard."""
        if self._usage is not None:
            return self._usage.prompt + self._usage.completion
        return prompt_tokens(request) + self._inner.pieces if self._opened else 0
