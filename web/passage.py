"""One request on its way through the service: its place, its deadlines, and what is measured of it.

It is what the relay tells its story to, so each piece of an answer costs it a few additions; the rest comes at the end.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from typing import TYPE_CHECKING, NamedTuple, Self

from infra.metric_families import GAPS
from web.errors import DeadlinePassed, ReaderStalled, ServiceError, to_wire
from web.interruption import Interruptible
from web.record import Story

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    from infra.settings import Web
    from web.admission import Lane, Place, Waiting
    from web.clock import Clock, Timer
    from web.dialects.pieces import Usage
    from web.draining import Draining
    from web.exchange import Phase
    from web.metrics import ModelMetrics
    from web.outlets import Outlet
    from web.record import Record

    Charge = Callable[["Used"], object]

STALL_CHECKS = 4
"""How often in its time it is looked whether a reader has stopped: so that is found a quarter later at most."""


class Used(NamedTuple):
    """What a request has used, once an engine had it. `seconds`: for how long that had it, waiting in its own queue
    included. `usage`: as the engine told it; None where it did not come to that. `pieces`: as many were heard."""

    seconds: float
    usage: Usage | None
    pieces: int


class Passage:
    """A context around all that is done for one request. It is an Observation; `metrics` is None where nothing of the
    request is counted but its presence, and in `cold` that it found no engine (a plain exchange). `charge` is told
    what the request has used, once, if an engine had it.

    It ends its body with DeadlinePassed, ReaderStalled or ServerShuttingDown when it is time for that.
    """

    def __init__(
        self, *, lane: Lane, metrics: ModelMetrics | None, cold: ModelMetrics | None, clock: Clock, web: Web,
        draining: Draining, outlet: Outlet | None = None, charge: Charge | None = None, record: Record | None = None,
    ) -> None:  # fmt: skip
        self.arrived = clock.monotonic()
        self._record = record
        self._story = Story(self.arrived)
        self.place: Place = "waiting"
        self.pieces = 0
        self._lane = lane
        self._metrics = metrics
        self._cold = cold
        self._clock = clock
        self._web = web
        self._draining = draining
        self._outlet = outlet
        self._charge = charge
        self._sent: float | None = None
        self._interruptible = Interruptible()
        self._timers: list[Timer] = []
        self._admitted = False
        self._opened: float | None = None
        self._first = self._last = 0.0
        self._gaps = [0] * (len(GAPS) + 1) if metrics is None else metrics.gaps.counts
        self._usage: Usage | None = None
        self._error: BaseException | None = None
        self._ended: float | None = None

    @property
    def under_way(self) -> bool:
        """Whether an engine has the request, or may have."""
        return self._admitted and self.place != "booting"

    def __enter__(self) -> Self:
        self._draining.add(self._interruptible)
        self._lane.came(self.place)
        if self._metrics is not None:
            self._metrics.requests.value += 1
        self._interruptible.__enter__()
        self._timers = [self._clock.call_later(self._web.deadline, self._pass_deadline)]
        if self._outlet is not None:
            self._watch_reader(self._outlet, seen=-1, since=self.arrived)
        return self

    async def enter(self, caller: str, *, waiting: Waiting, on_wait: Callable[[int], Awaitable[None]] | None) -> None:
        """Wait for a place, as `Lane.enter` says."""
        await self._lane.enter(caller, arrived=self.arrived, waiting=waiting, on_wait=on_wait)
        self._story.admitted = self._clock.monotonic()
        self._admitted = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for timer in self._timers:
            timer.cancel()
        self._draining.discard(self._interruptible)
        if self._admitted:
            self._lane.leave()
        self._lane.left(self.place)
        try:
            self._interruptible.__exit__(kind, error, trace)
        except ServiceError as interruption:
            error = interruption
            raise
        finally:
            ended = self._clock.monotonic() if self._ended is None else self._ended
            if self._metrics is not None:
                self._count(self._metrics, error or self._error, ended)
            if self._charge is not None and self._sent is not None:
                self._charge(self._used(self._sent, ended))
            if self._record is not None:
                self._tell(self._record, error or self._error, ended)
            self._error = self._charge = None  # its traceback holds the request

    # What the relay tells.

    def waiting(self, phase: Phase, now: float) -> None:
        self._move("booting" if phase == "booting" else "waiting")
        if phase == "booting":
            self._lane.found_cold(now)
            if self._story.cold is None:
                self._story.cold = now
                if self._cold is not None:
                    self._cold.cold_requests.value += 1

    def sent(self, now: float | None) -> None:
        self._sent = now

    def opened(self, now: float) -> None:
        self._opened = now
        booted = self._lane.found_warm(now)
        if booted is not None and self._cold is not None:
            self._cold.cold_starts.observe(booted)
        self._move("running")

    def heard(self, pieces: int, now: float) -> None:
        if not self.pieces:
            self._first = now
            self._gaps[0] += pieces - 1
        elif pieces == 1:
            self._gaps[bisect_left(GAPS, now - self._last)] += 1
        else:  # they came together: each has its part of the time
            self._gaps[bisect_left(GAPS, (now - self._last) / pieces)] += pieces
        self._last = now
        self.pieces += pieces

    def ended(self, usage: Usage | None, error: BaseException | None, now: float) -> None:
        self._usage, self._error, self._ended = usage, error, now

    def _move(self, place: Place) -> None:
        self._lane.left(self.place)
        self.place = place
        self._lane.came(place)

    def _pass_deadline(self) -> None:
        self._interruptible.interrupt(DeadlinePassed(self._web.deadline))

    def _watch_reader(self, outlet: Outlet, *, seen: int, since: float) -> None:
        """A reader has stopped when one and the same write has been under way for too long."""
        now = self._clock.monotonic()
        if not outlet.writing or outlet.writes != seen:
            since = now
        elif now - since >= self._web.write_timeout:
            self._interruptible.interrupt(ReaderStalled(self._web.write_timeout))
            return
        writes = outlet.writes
        again = self._clock.call_later(
            self._web.write_timeout / STALL_CHECKS, lambda: self._watch_reader(outlet, seen=writes, since=since)
        )
        self._timers[1:] = [again]

    def _used(self, sent: float, ended: float) -> Used:
        # The usage is the last that an engine says; the caller may have read for longer.
        until = self._last if self._usage is not None and self.pieces else ended
        return Used(until - sent, self._usage, self.pieces)

    def _tell(self, record: Record, error: BaseException | None, now: float) -> None:
        story = self._story
        story.ended, story.sent, story.opened = now, self._sent, self._opened
        story.pieces, story.usage = self.pieces, self._usage
        if self.pieces:
            story.first, story.last = self._first, self._last
        record.story = story
        if isinstance(error, asyncio.CancelledError):
            record.left = True
        elif error is not None:
            wire = to_wire(error)
            record.error = wire.code or wire.type

    def _count(self, metrics: ModelMetrics, error: BaseException | None, now: float) -> None:
        usage = self._usage
        tokens = self.pieces
        if usage is not None:
            tokens = usage.completion or tokens
            metrics.prompt_tokens.value += usage.prompt
            metrics.cached_tokens.value += usage.cached
            metrics.prefix_hits.value += usage.cached > 0
        metrics.tokens.value += tokens
        metrics.generation_tokens.value += tokens
        if self.pieces:
            metrics.first_token.observe(self._first - self.arrived)
            metrics.gaps.sum += self._last - self._first
        if error is None:
            metrics.latency.observe(now - self.arrived)
            if self._opened is not None:
                metrics.duration.observe(now - self._opened)
            if tokens > 1 and self._last > self._first:
                metrics.rate.observe((tokens - 1) / (self._last - self._first))
        elif isinstance(error, asyncio.CancelledError):
            metrics.cancelled.value += 1
        else:
            metrics.error(to_wire(error).status)
