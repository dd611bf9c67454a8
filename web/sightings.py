"""What the requests of this process see of each model's engine: some counting, on one event loop."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from web.errors import EngineFailed


@dataclass
class Seen:
    """One model. Times are the clock's monotonic seconds."""

    active: int = 0
    """Requests under way, those that wait for an engine included."""
    answering: int = 0
    """Of these, the ones that an engine has taken."""
    waiting: int = 0
    """Of these, the ones that wait for an engine to boot."""
    waiting_since: float | None = None
    """Since when there has been one that waits for it."""
    last_used: float | None = None
    """When the last request ended or came."""
    failure: str | None = None
    """What the engine said when it could not start; None once one has answered."""


class Sightings:
    """Model id -> what was seen of it."""

    def __init__(self) -> None:
        self._models: defaultdict[str, Seen] = defaultdict(Seen)

    def of(self, model: str) -> Seen:
        return self._models[model]

    def begin(self, model: str, now: float) -> Visit:
        """A request for `model` (its id) came. `Visit.ended` must be called once."""
        return Visit(model, self._models[model], now)


class Visit:
    """One request, as it passes by."""

    __slots__ = ("_answered", "_seen", "_waits", "model")

    def __init__(self, model: str, seen: Seen, now: float) -> None:
        self.model = model
        self._seen = seen
        self._waits = self._answered = False
        seen.active += 1
        seen.last_used = now

    def waits(self, now: float) -> None:
        """It found no engine."""
        if not self._waits:
            self._waits = True
            self._seen.failure = None  # a new attempt to boot is under way
            self._seen.waiting += 1
            if self._seen.waiting_since is None:
                self._seen.waiting_since = now

    def answered(self) -> None:
        """An engine has taken it."""
        self._stops_waiting()
        self._answered = True
        self._seen.answering += 1
        self._seen.failure = None

    def ended(self, error: BaseException | None, now: float) -> None:
        """It is over, whatever became of it."""
        self._stops_waiting()
        seen = self._seen
        seen.active -= 1
        seen.answering -= self._answered
        seen.last_used = now
        if isinstance(error, EngineFailed):
            seen.failure = error.reason

    def _stops_waiting(self) -> None:
        if self._waits:
            self._waits = False
            self._seen.waiting -= 1
            if not self._seen.waiting:
                self._seen.waiting_since = None
