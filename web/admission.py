"""Who may ask a model's engines now, who waits for a place and in what order, and who is told to come back. One event
loop's view: other web containers have queues of their own, and an engine that is full because of them says so itself.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from web.errors import EngineOverloaded, EngineStillBooting
from web.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from infra.settings import Settings
    from web.clock import Clock, Timer

Place = Literal["waiting", "booting", "running"]
RECENT = 0.2
"""The weight of the last interval between two places that got free, in their running mean."""
FIRST_SILENCE_SECONDS = 2.0
"""How long a caller in the queue hears nothing, so that an early refusal can still be a status."""


class Waiter:
    """One request in a queue."""

    __slots__ = ("granted", "wake")

    def __init__(self) -> None:
        self.granted = False
        self.wake: asyncio.Future[None] | None = None

    def call(self) -> None:
        """Let it look again."""
        if self.wake is not None and not self.wake.done():
            self.wake.set_result(None)


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """How long whoever is in the queue stays there, in seconds since it came. `boot`: while the model boots, and at
    most; `busy`: while its engines are up (counted from when they were, if that was later); `pause`: between two
    signs of life to its caller."""

    boot: float
    busy: float
    pause: float


class Lane:
    """One model's places and the queue behind them."""

    def __init__(self, *, places: int, longest_queue: int, clock: Clock) -> None:
        """`places`: requests that all of the model's engines together take at once."""
        self.places = places
        self.taken = 0
        self.present: dict[Place, int] = {"running": 0, "waiting": 0, "booting": 0}
        self._longest_queue = longest_queue
        self._clock = clock
        self._queue: Turns[Waiter] = Turns()
        self._cold_since: float | None = None
        self._warm_since = 0.0
        self._interval: float | None = None
        self._freed_at = 0.0

    @property
    def queued(self) -> int:
        return len(self._queue)

    async def enter(
        self, caller: str, *, arrived: float, waiting: Waiting,
        on_wait: Callable[[int], Awaitable[None]] | None = None,
    ) -> None:  # fmt: skip
        """Return with a place, which `leave` gives back. Cancel to leave the queue.

        Places go to callers in turn, and among one caller's requests in the order in which they came. `on_wait` is
        called from time to time with how many are before it. Raises EngineOverloaded when the queue is full or the
        patience is over, EngineStillBooting when it is because the model boots.
        """
        if self.taken < self.places:
            self._take()
            return
        if len(self._queue) >= self._longest_queue:
            raise EngineOverloaded(retry_after=self.expected(len(self._queue) + 1))
        waiter = Waiter()
        self._queue.add(caller, waiter)
        try:
            pause = min(FIRST_SILENCE_SECONDS, waiting.pause)
            while True:
                await self._pause(waiter, min(pause, self._left(caller, waiter, arrived, waiting)))
                if waiter.granted:
                    return
                self._left(caller, waiter, arrived, waiting)
                if on_wait is not None:
                    await on_wait(self._queue.before(caller, waiter))
                if waiter.granted:
                    return
                pause = waiting.pause
        except BaseException:
            if waiter.granted:
                self.leave()
            else:
                self._queue.remove(caller, waiter)
            raise

    def leave(self) -> None:
        """Give a place back: to the next in turn."""
        now = self._clock.monotonic()
        if self.taken == self.places:
            passed = now - self._freed_at
            known = self._interval
            self._interval = passed if known is None else known + RECENT * (passed - known)
            self._freed_at = now
        self.taken -= 1
        if self._queue:
            waiter = self._queue.next()
            waiter.granted = True
            self._take()
            waiter.call()

    def came(self, place: Place) -> None:
        """One more request is there."""
        self.present[place] += 1

    def left(self, place: Place) -> None:
        """One is there no more."""
        self.present[place] -= 1
        if place == "booting" and not self.present["booting"]:
            self._cold_since = None  # unless an engine was found, nobody knows when it will have come up

    def found_cold(self, now: float) -> None:
        """A request that has a place found no engine."""
        if self._cold_since is None:
            self._cold_since = now

    def found_warm(self, now: float) -> float | None:
        """A request that has a place found an engine. Seconds since the first that had not; None: there was none."""
        since, self._cold_since = self._cold_since, None
        if since is None:
            return None
        self._warm_since = now
        return now - since

    def expected(self, places: int) -> float | None:
        """In how many seconds so many places should have got free, by the rate at which they did lately. None: not
        known, since all of them have never been taken."""
        if self._interval is None:
            return None
        return places * max(self._interval, self._clock.monotonic() - self._freed_at)

    def _take(self) -> None:
        self.taken += 1
        if self.taken == self.places:
            self._freed_at = self._clock.monotonic()

    def _left(self, caller: str, waiter: Waiter, arrived: float, waiting: Waiting) -> float:
        """Seconds of patience. Raises what its end means."""
        now = self._clock.monotonic()
        if self._cold_since is not None:
            left = arrived + waiting.boot - now
            if left <= 0:
                raise EngineStillBooting(now - arrived)
        else:
            left = min(arrived + waiting.boot, max(arrived, self._warm_since) + waiting.busy) - now
            if left <= 0:
                raise EngineOverloaded(retry_after=self.expected(self._queue.before(caller, waiter) + 1))
        return left

    async def _pause(self, waiter: Waiter, seconds: float) -> None:
        waiter.wake = asyncio.get_running_loop().create_future()
        timer: Timer = self._clock.call_later(seconds, waiter.call)
        try:
            await waiter.wake
        finally:
            timer.cancel()


def lanes(settings: Settings, clock: Clock, *, engine_containers: int | None = None) -> Mapping[str, Lane]:
    """A lane for each configured model, by id. `engine_containers`: how many engines a model can have; None: as its
    scaling says."""
    models = settings.models
    return {
        model.id: Lane(
            places=model.concurrency(models) * (engine_containers or model.scaling.max_containers),
            longest_queue=models.max_queued_requests,
            clock=clock,
        )
        for model in models.available_models
    }
