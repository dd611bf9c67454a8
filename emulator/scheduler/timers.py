"""The timer of scheduled functions: calls each without arguments when its time has come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from emulator.scheduler.schedules import InvalidScheduleError, parse
from emulator.signals import Signal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from emulator.clock import Clock
    from emulator.scheduler.schedules import Schedule
    from emulator.state import FunctionRecord


@dataclass(eq=False)
class Timer:
    """One scheduled function of a deployed app."""

    record: FunctionRecord
    schedule: Schedule
    since: float
    next_at: float | None
    """Seconds since the epoch; `None`: never again."""


class Timers:
    """Every scheduled function that is deployed. Times that passed unseen (the machine slept) are one run, not many."""

    def __init__(self, clock: Clock, run: Callable[[FunctionRecord], None], say: Callable[[str], None]) -> None:
        self._clock = clock
        self._run = run
        self._say = say
        self._timers: dict[str, Timer] = {}
        self._changed = Signal()
        self.ran: Callable[[FunctionRecord, float], None] = lambda _record, _at: None
        """Told of each run before it begins, and of when it is (seconds since the epoch)."""

    @property
    def all(self) -> list[Timer]:
        """In the order in which they were deployed."""
        return list(self._timers.values())

    def follow(self, records: Iterable[FunctionRecord], *, since: float) -> None:
        """These functions were deployed at `since`: theirs are the schedules that count. A `Period` starts then."""
        now = self._clock.time()
        for record in records:
            self._timers.pop(record.function_id, None)
            if not record.definition.HasField("schedule"):
                continue
            try:
                schedule = parse(record.definition.schedule)
            except InvalidScheduleError as error:  # refused when it is created: only a record from elsewhere gets here
                self._say(f"{record.tag}: {error}: it is not run")
                continue
            self._timers[record.function_id] = Timer(record, schedule, since, schedule.after(now, since=since))
        self._changed.notify()

    def missed(self, function_id: str, *, ran: float) -> float | None:
        """When it was due first since its deployment, or since it `ran` last under an earlier emulator, if it was.

        That run is not made up for: Modal, which is never away, runs nothing at another time than its schedule's.
        """
        if (timer := self._timers.get(function_id)) is None:
            return None
        due = timer.schedule.after(max(timer.since, ran), since=timer.since)
        return due if due is not None and due <= self._clock.time() else None

    def drop(self, function_ids: Iterable[str]) -> None:
        """These functions are gone. Harmless for those without a schedule."""
        for function_id in function_ids:
            self._timers.pop(function_id, None)

    async def keep(self) -> None:
        """Run what is due, for ever. Ends by being cancelled."""
        while True:
            now = self._clock.time()
            for timer in self.all:
                if timer.next_at is not None and timer.next_at <= now:
                    timer.next_at = timer.schedule.after(now, since=timer.since)
                    self._fire(timer)
            due = min((timer.next_at for timer in self._timers.values() if timer.next_at is not None), default=None)
            try:
                async with self._clock.until(due):
                    await self._changed.wait()
            except TimeoutError:
                pass

    def _fire(self, timer: Timer) -> None:
        try:
            self.ran(timer.record, self._clock.time())
            self._run(timer.record)
        except Exception as error:  # one function's trouble is not to keep the others from being run
            self._say(f"{timer.record.tag} could not be run on its schedule: {error!r}")
