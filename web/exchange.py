"""One request to one engine: found, waited for while it boots, read, and on every way out let go of."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

from web.answer import ConnectionBroken, Whole
from web.errors import ContainersBusy, EngineBroken, EngineStillBooting, ServiceError
from web.upstream import AFFINITY_HEADER, NotConnected
from web.verdicts import Retry, judge, retry_delay

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from types import TracebackType

    from web.answer import Answer
    from web.clock import Clock
    from web.dialects.engines import EngineCall
    from web.engines import EngineTarget
    from web.forwarding import Reader
    from web.sightings import Visit
    from web.upstream import Upstream

LONGEST_ERROR = 64 * 1024
MOST_LOSSES = 2
"""Containers that may go away under a request before it is the request that is suspected."""

LONGEST_AFFINITY = 128

Phase = Literal["waiting", "booting", "busy", "streaming"]
"""`waiting`: for the engine's answer; `booting`: there is no engine yet; `busy`: each one that is there is full."""


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long what is waited for, in seconds. `boot`: for an engine to come up; `busy`: for a place at one that is
    there; `silence`: for the next sign of life of an engine that has taken the request."""

    boot: float
    busy: float = 30.0
    silence: float = 300.0


class Exchange:
    """A context: inside, `open`, then `listen` until the stream is done. Leaving it before that ends the engine's work:
    the connection is closed, and the abort, where the engine has one, is on its way to the same container."""

    def __init__(
        self, *, upstream: Upstream, clock: Clock, target: EngineTarget, call: EngineCall,
        affinity: str | None, patience: Patience,
        again: Callable[[], EngineTarget] | None = None, visit: Visit | None = None,
        sent: Callable[[float | None], object] | None = None, arrived: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        """`arrived`: when the request came, on the clock's monotonic scale, if it has waited before. `again`: where the
        engine is by now, asked before every further attempt: as at first, it counts as demand and may raise
        ServiceError. `visit`: is told how it goes; entering and leaving this context end it. `sent`: is told
        when the request was sent to an engine, and None when that turns out not to work on it. `headers`: more of them,
        for the engine."""
        self.phase: Phase = "waiting"
        self.began = clock.monotonic() if arrived is None else arrived
        self._upstream = upstream
        self._clock = clock
        self._target = target
        self._again = again
        self.visit = visit
        self._sent = sent or _nobody_asks
        self._call = call
        self._more = headers or {}
        self._affinity = _spelled(affinity) if affinity else secrets.token_hex(16)
        self._patience = patience
        self._answer: Answer | None = None
        self._opening: Answer | None = None
        """What has not turned out yet to be the answer."""
        self._stalled = False
        self._reader: Reader | None = None
        self._asked = False
        self._held = False
        self._reads_seen = 0
        self._silent_since = clock.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.visit is not None:
            self.visit.ended(error, self._clock.monotonic())
        if self._answer is not None:
            if self._asked:
                self._answer.close()
            else:
                self._upstream.let_go(self._answer)
            # It holds what hears it, and that the prompt: a circle waits for the collector, which seldom comes.
            self._answer = self._reader = None
        if self._asked and self._call.abort is not None:
            self._upstream.abort(self._target.url + "/abort_request", body=self._call.abort, headers=self._headers())

    @property
    def waited(self) -> float:
        """Seconds since the request came."""
        return self._clock.monotonic() - self.began

    async def open(self, *, on_wait: Callable[[], Awaitable[None]] | None = None) -> None:
        """Return once an engine has taken the request and begun to answer. `on_wait` is called when it turns out that
        there is no engine yet, or no place at one; `phase` says which. `check_silence` has to be called meanwhile.

        Raises EngineStillBooting, EngineOverloaded, and whatever `judge` makes of the engine's answer, or `again` of
        its state.
        """
        losses = 0
        busy_since: float | None = None
        while (retry := await self._attempt()) is not None:
            before, self.phase = self.phase, "busy" if retry.reason == "busy" else "booting"
            now = self._clock.monotonic()
            if self.visit is not None and self.phase == "booting":
                self.visit.waits(now)
            if on_wait is not None and self.phase != before:
                await on_wait()
            if retry.reason == "busy":
                busy_since = busy_since or now
                self._affinity = secrets.token_hex(16)
                if now - busy_since >= self._patience.busy:
                    raise ContainersBusy
            losses += retry.reason == "lost"
            if losses > MOST_LOSSES:
                raise EngineBroken("The engine went away before it answered.", code="engine_died")
            left = self.began + self._patience.boot - now
            if left <= 0:
                raise EngineStillBooting(self.waited)
            await self._clock.sleep(min(left, retry_delay(self.waited)))
            if self._again is not None:
                self._target = self._again()
        self.phase = "streaming"
        if self.visit is not None:
            self.visit.answered()

    def listen(self, reader: Reader) -> None:
        """From now on `reader` hears what the engine says, at once what it has said already, until `finish`."""
        if self._answer is None:
            raise RuntimeError("an exchange is opened before it is heard")
        self._reader = reader
        self._answer.listen(reader.heard, self.ended)

    def hold(self) -> None:
        """Hear no more for now: the engine has to wait, until `go_on`."""
        if self._answer is not None and not self._held:
            self._held = True
            self._answer.hold()

    def go_on(self) -> None:
        if self._answer is not None and self._held:
            self._held = False
            self._answer.go_on()

    def ended(self, error: ConnectionBroken | None) -> None:  # noqa: ARG002 (it says no more than that)
        """The answer tells it: for a reader who has not heard all of it, that is a death."""
        if self._asked and self._reader is not None:
            self._asked = False
            self._reader.broken(_died())

    async def whole(self) -> bytes:
        """All of an answer that is one body and no stream: in place of `listen` and `finish`. Raises EngineBroken when
        the engine dies or stalls before it is complete."""
        if self._answer is None:
            raise RuntimeError("an exchange is opened before it is read")
        try:
            async with self._clock.timeout(self._patience.silence):
                body = await Whole(self._answer).read()
        except TimeoutError:
            raise self._silence() from None
        except ConnectionBroken:
            self._asked = False
            raise _died() from None
        self._asked = False
        return body

    def finish(self) -> None:
        """The engine has said all of it: leaving now ends nothing."""
        self._asked = False

    def check_silence(self) -> None:
        """To be called from time to time: ends the exchange if the engine is what it has been waiting for for too
        long. `open` raises that then, or the reader is told."""
        now = self._clock.monotonic()
        answer = self._answer or self._opening
        if answer is None:
            return
        if self._held or answer.reads != self._reads_seen:
            self._reads_seen, self._silent_since = answer.reads, now
        elif now - self._silent_since >= self._patience.silence:
            if self._answer is None:
                self._stalled = True
                answer.cut()
                return
            answer.close()
            if self._reader is not None:
                self._reader.broken(self._silence())

    async def _attempt(self) -> Retry | None:
        """Ask once. None: the engine answers, and its answer can be read."""
        self._asked = True
        url = self._target.url + self._call.path
        try:
            self._opening = answer = await self._upstream.ask(url, body=self._call.body, headers=self._headers())
            self._reads_seen, self._silent_since = 0, self._clock.monotonic()
            self._sent(self._silent_since)
            await answer.begin()
            if answer.status == 200:
                self._answer = answer
                self._silent_since = self._clock.monotonic()
                return None
            try:
                body = await Whole(answer, most=LONGEST_ERROR).read()
            finally:
                answer.close()
        except NotConnected:
            self._asked = False
            return Retry("booting")
        except OSError:
            if self._stalled:
                raise self._silence() from None
            self._asked = False
            self._sent(None)
            return Retry("lost")
        finally:
            self._opening = None
        self._asked = False
        self._sent(None)
        verdict = judge(answer.status, answer.headers, body, prompt=self._call.prompt_name)
        if isinstance(verdict, ServiceError):
            raise verdict
        return verdict

    def _headers(self) -> dict[str, str]:
        return {**self._target.headers, **self._more, AFFINITY_HEADER: self._affinity}

    def _silence(self) -> EngineBroken:
        return EngineBroken(f"The engine was silent for {self._patience.silence:.0f} s.", code="engine_stalled")


def _nobody_asks(_: float | None) -> None: ...


def _spelled(affinity: str) -> str:
    """As a header can hold it: callers say what they like, as long as they like."""
    if len(affinity) <= LONGEST_AFFINITY and affinity.isascii() and affinity.isprintable() and " " not in affinity:
        return affinity
    return hashlib.sha256(affinity.encode()).hexdigest()


def _died() -> EngineBroken:
    return EngineBroken("The engine died before the answer was complete.", code="engine_died")
