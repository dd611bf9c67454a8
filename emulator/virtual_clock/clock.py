"""The virtual clock itself."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from emulator.clock import Clock, RealClock
from emulator.virtual_clock.agenda import EMULATOR, Agenda, grained
from emulator.virtual_clock.durations import seconds_of
from emulator.virtual_clock.inside import Inside
from emulator.virtual_clock.quiet import WITHIN, until_quiet
from emulator.virtual_clock.waits import Timeout, sleep

if TYPE_CHECKING:
    from collections.abc import Callable

    from emulator.virtual_clock.agenda import Due, Rank
    from emulator.virtual_clock.durations import Duration
    from emulator.virtual_clock.quiet import Watched

FLOW = 0.01
"""Real seconds between two looks at the real time while this one follows it."""


class VirtualClock:
    """A `Clock` that stands still until it is turned. For one emulator at a time.

    `start` is its first moment (with a time zone; default: now, to the second). `outside` is the time of those who do
    not follow it: the real one, but in tests of just that. Turn it from any thread, but neither from the emulator's own
    nor from a container's code: both are what it waits for.
    """

    def __init__(self, *, start: datetime | None = None, outside: Clock | None = None) -> None:
        if start is not None and start.tzinfo is None:
            raise ValueError("`start` needs a time zone: datetime(2026, 3, 1, tzinfo=UTC)")
        self._outside = outside or RealClock()
        self._epoch = start.timestamp() if start is not None else float(int(RealClock().time()))
        self._origin = 1000.0
        self._elapsed = 0.0
        self._agenda = Agenda()
        self._lock = threading.Lock()
        self._turning = threading.Lock()
        self._watched: Watched | None = None
        self.changes = 0
        """Counts who begins to wait, is woken, or gives up waiting: as long as it stands, no code has been waiting."""

    # What the emulator asks of it

    def time(self) -> float:
        return self._epoch + self._elapsed

    def monotonic(self) -> float:
        return self._origin + self._elapsed

    async def sleep(self, seconds: float) -> None:
        await sleep(self, seconds)

    def timeout(self, seconds: float | None) -> Timeout:
        return Timeout(self, seconds)

    def until(self, moment: float | None) -> Timeout:
        return Timeout(self, None if moment is None else max(0.0, moment - self.time()))

    @property
    def outside(self) -> Clock:
        return self._outside

    def add(self, seconds: float, wake: Callable[[], None], *, rank: Rank = EMULATOR) -> Due:
        """Have `wake` called, from any thread and only once, when that much time has passed."""
        with self._lock:
            self.changes += 1
            return self._agenda.add(self._elapsed + seconds, rank, wake)

    def drop(self, due: Due) -> None:
        """Call it no more. Harmless when repeated."""
        with self._lock:
            self.changes += 1
            self._agenda.drop(due)

    # What a test asks of it

    def now(self) -> datetime:
        """Its moment, in UTC."""
        return self._moment(self._elapsed)

    def _moment(self, elapsed: float) -> datetime:
        return datetime.fromtimestamp(self._epoch, UTC) + timedelta(seconds=round(elapsed, 5))  # more than its grain

    @property
    def due(self) -> datetime | None:
        """The next moment that anything waits for; `None`: nothing does."""
        with self._lock:
            due = self._agenda.next()
        return None if due is None else self._moment(due.at)

    def advance(self, by: Duration, *, within: float = WITHIN, regardless: bool = False) -> None:
        """Let time pass, one due moment after the other; return when all that was due has happened and all is quiet.

        `by` is like `"90s"`, `"5m"`, `"1h30m"` or `"1d"`, a number of seconds, or a `timedelta`. Raises
        `NotQuietError`, which names what is still busy, when it has not become quiet within `within` seconds of real
        time after one of these moments: time stands at that moment then. With `regardless` it does not wait for what
        containers do (work, boot, leave, answer a request), only for the emulator itself: for containers whose time is
        real, and that are meant to be too slow.
        """
        self._turn(self._elapsed + seconds_of(by), within=within, regardless=regardless)

    def advance_to(self, moment: datetime, *, within: float = WITHIN, regardless: bool = False) -> None:
        """The same, up to a moment to come (with a time zone)."""
        if moment.tzinfo is None:
            raise ValueError("the moment needs a time zone: datetime(2026, 3, 1, tzinfo=UTC)")
        if moment < self.now():
            raise ValueError(f"time only goes on, and it is {self.now():%F %T} UTC already")
        self._turn(moment.timestamp() - self._epoch, within=within, regardless=regardless)

    def settle(self, *, within: float = WITHIN, regardless: bool = False) -> None:
        """Return when all is quiet, without letting time pass. Raises `NotQuietError`."""
        self._turn(self._elapsed, within=within, regardless=regardless)

    async def advance_async(self, by: Duration | datetime, *, within: float = WITHIN, regardless: bool = False) -> None:
        """`advance` or `advance_to` for who must not block a loop: that of an asynchronous test."""
        pool = ThreadPoolExecutor(1, thread_name_prefix="virtual clock")
        try:
            if isinstance(by, datetime):
                turning = pool.submit(self.advance_to, by, within=within, regardless=regardless)
            else:
                turning = pool.submit(self.advance, by, within=within, regardless=regardless)
            await asyncio.wrap_future(turning)
        finally:
            pool.shutdown(wait=False)

    # Turning

    def _turn(self, ends: float, *, within: float, regardless: bool) -> None:
        self._refuse_own_threads()
        ends = grained(ends)
        with self._turning:
            self._rest(within, regardless)
            while self._step(ends):
                self._rest(within, regardless)

    def _step(self, ends: float) -> bool:
        """Wake the next who waits for a moment up to `ends`. False: there is none, and it is `ends` now."""
        with self._lock:
            due = self._agenda.next()
            if due is None or due.at > ends:
                self._elapsed = max(self._elapsed, ends)
                return False
            self._elapsed = max(self._elapsed, due.at)
            self.changes += 1
            self._agenda.fire(due)
            return True

    def _rest(self, within: float, regardless: bool) -> None:
        if self._watched is not None:
            until_quiet(self._watched, lambda: self.changes, within=within, regardless=regardless, now=self.now)

    def _refuse_own_threads(self) -> None:
        if Inside.here() is not None:
            raise RuntimeError("a container's code can not turn the clock: it is what the clock would wait for")
        if self._watched is not None and self._watched.in_loop():
            raise RuntimeError("the clock can not be turned on the loop that it waits for: use `advance_async`")

    # For the emulator that is watched

    def watch(self, watched: Watched) -> None:
        """From now on it is quiet when this is. Raises `RuntimeError` while another is watched."""
        if self._watched is not None:
            raise RuntimeError("a VirtualClock is for one emulator at a time: give each its own")
        self._watched = watched

    async def flow(self) -> None:
        """Follow the real time until cancelled, and forget what was watched: an emulator that stops waits for real.

        Who turns the clock meanwhile is not waited for, and what is due comes when it is.
        """
        self._watched = None
        real = RealClock()
        last = real.monotonic()
        while True:
            await real.sleep(FLOW)
            passed, last = real.monotonic() - last, real.monotonic()
            ends = self._elapsed + passed
            while self._step(ends):
                pass
