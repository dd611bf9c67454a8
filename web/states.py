"""A model's state, told without waking its engine: what the platform counts, and what this process's requests see.

The platform is asked through `EngineControl`, at most once in `FRESH_SECONDS` for each model, and never by a request
that wants tokens.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.settings import Models
    from web.clock import Clock
    from web.sightings import Seen, Sightings

log = logging.getLogger(__name__)

FRESH_SECONDS = 1.0
"""How old an answer of the platform may be."""
PATIENCE_SECONDS = 1.0
"""How long whoever asks waits for it; what was known before is told then."""

StateName = Literal["cold", "booting", "ready", "failed", "unknown"]
BootPhase = Literal["container", "weights", "engine"]
"""`container`: waiting for a machine; `weights`: fetching the model's files; `engine`: starting and loading. Where the
platform does not tell them apart, `engine` is all that comes after the container."""


@dataclass(frozen=True, kw_only=True)
class ModelState:
    """`cold`: no engine runs, the next request starts one. `unknown`: the platform does not tell; requests decide."""

    state: StateName
    phase: BootPhase | None = None
    """Of one that boots, if it is known."""
    seconds: float | None = None
    """For how long it has been booting, as far as this process knows."""
    containers: int | None = None
    """Engines that are there, booting ones included. None: not known."""
    requests: int | None = None
    """Requests that they are working on. None: not known."""
    reason: str | None = None
    """Why it failed, for the caller."""
    boot: Mapping[str, float] | None = None
    """Of one that is ready: the phases of its boot, in seconds, where they are known."""

    @property
    def available(self) -> bool:
        """Whether a request for it may be served: a cold model can."""
        return self.state != "failed"


UNKNOWN = ModelState(state="unknown")
COLD = ModelState(state="cold", containers=0, requests=0)


class EngineControl(Protocol):
    """What runs the engines, as the web tier sees it. Models are named by id. Called on the event loop; none of it may
    block it."""

    def known(self, model: str) -> ModelState | None:
        """What it knows now and needs not ask for, exactly; None where `state` must be asked."""

    async def state(self, model: str) -> ModelState:
        """What the platform knows. Starts nothing. May raise anything: the state is unknown then."""

    async def load(self, model: str) -> None:
        """Have an engine started, and kept until `unload`; returns once that is under way. Raises ServiceError."""

    async def unload(self, model: str, *, force: bool) -> None:
        """Have the model's engines stopped; with `force`, those that are busy too. Raises ServiceError: ModelBusy where
        a busy one is not stopped, NotSupported for what this platform cannot do."""

    async def close(self) -> None:
        """The application has ended: so does what this has under way. May be called again."""


def combine(told: ModelState, seen: Seen, now: float) -> ModelState:
    """The state of a model of which the platform told one thing and this process saw another. Pure."""
    waited = None if seen.waiting_since is None else max(0.0, now - seen.waiting_since)
    if told.state in ("ready", "booting", "unknown") and seen.failure is not None:
        return replace(told, state="failed", reason=seen.failure, phase=None, seconds=None)
    if told.state == "booting" and told.seconds is None:
        return replace(told, seconds=waited)
    if told.state == "cold" and waited is not None:
        return replace(told, state="booting", phase="container", seconds=waited)
    if told.state == "unknown" and waited is not None:
        return replace(told, state="booting", seconds=waited)
    if told.state == "unknown" and seen.answering:
        return replace(told, state="ready")
    return told


@dataclass
class _Known:
    """The platform's last word on one model."""

    told: ModelState = UNKNOWN
    at: float = float("-inf")
    booting_since: float | None = None
    asking: asyncio.Task[None] | None = None


class ModelStates:
    """The states of the configured models. Opens nothing until it is asked, inside an event loop."""

    def __init__(self, models: Models, *, control: EngineControl | None, sightings: Sightings, clock: Clock) -> None:
        """Without a `control`, this process's own requests are all that is known."""
        self._ids = [model.id for model in models.available_models]
        self._control = control
        self._sightings = sightings
        self._clock = clock
        self._known = {model: _Known() for model in self._ids}

    async def of(self, model: str) -> ModelState:
        """The state of the model with this id, `FRESH_SECONDS` old at most unless the platform is slow."""
        asking = self._ask(model)
        if asking is not None:
            try:
                async with self._clock.timeout(PATIENCE_SECONDS):
                    await asyncio.shield(asking)
            except TimeoutError:
                pass
        return self._combined(model)

    async def anew(self, model: str) -> ModelState:
        """The same, asked for now, after something was done to it."""
        self._known[model].at = float("-inf")
        return await self.of(model)

    async def all(self) -> Mapping[str, ModelState]:
        """Of every configured model, by id."""
        found = await asyncio.gather(*map(self.of, self._ids))
        return dict(zip(self._ids, found, strict=True))

    def last(self, model: str) -> ModelState:
        """What is known now, without waiting. What is old is asked for in the background, for the next time."""
        self._ask(model)
        return self._combined(model)

    async def close(self) -> None:
        """End the questions that are under way."""
        asking = [known.asking for known in self._known.values() if known.asking is not None]
        for task in asking:
            task.cancel()
        if asking:
            await asyncio.wait(asking)

    def _combined(self, model: str) -> ModelState:
        known, now = self._known[model], self._clock.monotonic()
        state = combine(known.told, self._sightings.of(model), now)
        if state.state == "booting" and state.seconds is None and known.booting_since is not None:
            state = replace(state, seconds=now - known.booting_since)
        return state

    def _ask(self, model: str) -> asyncio.Task[None] | None:
        """The question to the platform that is under way, if what it told is old."""
        known = self._known[model]
        if self._control is None:
            return None
        if (exact := self._control.known(model)) is not None:
            known.told = exact
            self._sightings.of(model).failure = None  # a failure that lasts is part of what it knows exactly
            return None
        if self._clock.monotonic() - known.at < FRESH_SECONDS:
            return None
        if known.asking is None:
            known.asking = asyncio.create_task(self._refresh(self._control, model, known), name=f"state of {model}")
        return known.asking

    async def _refresh(self, control: EngineControl, model: str, known: _Known) -> None:
        try:
            told = await control.state(model)
        except Exception as error:
            log.info("the state of %s is not known: %r", model, error)
            told = UNKNOWN
        finally:
            known.asking = None
        now = self._clock.monotonic()
        known.told, known.at = told, now
        known.booting_since = (known.booting_since or now) if told.state == "booting" else None
        if told.state == "cold":
            self._sightings.of(model).failure = None
