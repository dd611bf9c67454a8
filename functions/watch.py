"""Whether an engine that has started still serves: it is asked, and ended when it has failed to answer too often.

A process that died needs no watch: `Engine.wait` returns. This is for those that live and do not serve: that hang (a
stuck GPU, a stopped process), that answer their health check with errors or with what is no HTTP, or that are healthy
and fail whatever they are asked. Ending such an engine closes its connections, so that the callers of what it had under
way are told, and whoever waits for its end starts another.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from functions.engines.base import Engine
    from infra.health import Health

log = logging.getLogger(__name__)


@dataclass
class Pulse:
    """Failures in a row, of two kinds. Pure: told what was found, it says what that means."""

    allowed: int
    unhealthy: int = 0
    """Health checks that it did not answer, or not with success."""
    senseless: int = 0
    """Requests that it answered with an error of its own, or with nothing that is an answer."""

    def health(self, answered: bool) -> str | None:
        """Why it is to be replaced, if it is."""
        self.unhealthy = 0 if answered else self.unhealthy + 1
        if self.unhealthy < self.allowed:
            return None
        return f"it did not answer {self.unhealthy} health checks in a row"

    def answer(self, sensible: bool | None) -> str | None:
        """Likewise. None: it was busy, or full, which says nothing."""
        if sensible is not None:
            self.senseless = 0 if sensible else self.senseless + 1
        if self.senseless < self.allowed:
            return None
        return f"it answered {self.senseless} requests in a row with errors of its own"


class Watch:
    """Watches one engine from a thread of its own, from `begin` to `end` or until it has ended the engine."""

    def __init__(self, engine: Engine, health: Health, *, name: str, then: Callable[[], object] | None = None) -> None:
        """`then` is called when it has ended the engine, or has tried to: not every process can be killed."""
        self.engine = engine
        self.health = health
        self.name = name
        self._then = then
        self.verdict: str | None = None
        """Why it ended the engine, once it has."""
        self._over = threading.Event()

    def begin(self) -> None:
        threading.Thread(target=self._run, name=f"watch-{self.name}", daemon=True).start()

    def end(self) -> None:
        """The engine is gone, or about to be."""
        self._over.set()

    def _run(self) -> None:
        pulse, since_answer = Pulse(self.health.failures), 0.0
        while not self._over.wait(self.health.probe_seconds):
            verdict = pulse.health(self.engine.healthy(self.health.probe_timeout))
            since_answer += self.health.probe_seconds
            due = self.health.answer_seconds and (since_answer >= self.health.answer_seconds or pulse.senseless)
            if due and not pulse.unhealthy:
                since_answer = 0.0
                verdict = pulse.answer(self.engine.answers(self.health.probe_timeout))
            if self._over.is_set():
                return
            if verdict is not None:
                self.verdict = verdict
                log.error("the engine of %s is ended: %s", self.name, verdict, extra={"model": self.name})
                self.engine.stop(at_once=True)  # its callers wait to be told, and it would not see to its end
                if self._then is not None:
                    self._then()
                return
            if pulse.unhealthy or pulse.senseless:
                log.warning("the engine of %s did not answer as it should; it is asked again", self.name)
