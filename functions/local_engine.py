"""One model's engine as a process of this machine: started on demand, watched, stopped when idle, started again.

Everything but `_keep` and `_end` runs on the event loop; each life of the engine has a thread that blocks for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from functions.boot import Boot, BootPhases
from functions.engines.base import Address, EngineStartError
from functions.watch import Watch
from infra.health import Health
from web.errors import EngineFailed, ModelBusy
from web.record import apart
from web.states import COLD, ModelState

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from functions.engine_lives import EngineLives
    from functions.engines.base import Engine
    from infra.settings import Model
    from web.clock import Clock
    from web.sightings import Seen
    from web.states import BootPhase

    Make = Callable[[Address, Boot], Engine]

log = logging.getLogger(__name__)

STEADY_SECONDS = 60.0
"""An engine that ran for so long and then crashed is started again without waiting."""
LONGEST_BACKOFF = 60.0
LOOK_SECONDS = 1.0
"""Between two looks at whether a busy engine has become idle."""


def backoff(failures: int) -> float:
    """Seconds without a start after so many failures in a row."""
    return min(LONGEST_BACKOFF, 2.0**failures) if failures else 0.0


def free_port() -> int:
    """A port of the loopback interface that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def refusing_port() -> socket.socket:
    """A socket that holds a port of the loopback interface and never listens: who connects there is refused, and nobody
    else can come to listen there."""
    held = socket.socket()
    held.bind(("127.0.0.1", 0))
    return held


@dataclass(eq=False)
class _Life:
    """One start of the engine, until its process is gone."""

    address: Address
    began: float
    boot: Boot
    phase: BootPhase = "weights"
    ready_at: float | None = None
    engine: Engine | None = None
    watch: Watch | None = None
    unwanted: bool = False
    """It is to end; whoever comes first of its thread and the one that ends it sees to that."""
    over: asyncio.Event = field(default_factory=asyncio.Event)


class LocalEngine:
    """Belongs to one event loop. `seen`: the model's requests, as the application counts them."""

    def __init__(
        self, model: Model, make: Make, *, seen: Seen, clock: Clock, health: Health | None = None,
        lives: EngineLives | None = None,
    ) -> None:  # fmt: skip
        """`make`: fetches the weights and constructs the engine, unstarted; blocks; raises EngineStartError.
        `lives`: is told of each start and end."""
        self.model = model
        self.kept = model.scaling.min_containers > 0
        """Whether it is started without being asked for, and not stopped when idle."""
        self._make = make
        self._seen = seen
        self._clock = clock
        self._health = health or Health()
        self._lives = lives
        self._life: _Life | None = None
        self._ending: _Life | None = None
        self._wanted_again = False
        self._nowhere = refusing_port()
        self._nobody = Address(host="127.0.0.1", port=self._nowhere.getsockname()[1])
        self.boot: BootPhases | None = None
        """Of its latest start that came to an end."""
        self._failure: str | None = None
        self._failures = 0
        self._not_before = 0.0
        self._closed = False
        self._tasks: set[asyncio.Task[None]] = set()

    def demand(self) -> Address:
        """Where it answers; until it has booted an address that refuses, so that nobody reaches an engine that has not
        passed its probe, and which is to be asked for again. Raises EngineFailed while it is known not to start."""
        if self._life is None and not self._closed:
            if self._clock.monotonic() >= self._not_before:
                self._begin()
            elif self._failure is not None:
                raise EngineFailed(self._failure)
        life = self._life
        return life.address if life is not None and life.ready_at is not None else self._nobody

    def load(self) -> None:
        """Start it, whatever happened before, and keep it until it is unloaded."""
        self.kept = True
        if self._life is None:
            self._not_before = 0.0
            self.demand()

    async def unload(self, *, force: bool = False) -> None:
        """Stop it, and return when its process is gone. Raises ModelBusy, unless `force`, when it works on requests."""
        if self._seen.active and not force:
            raise ModelBusy(self._seen.active)
        self.kept = False
        await self._stopped()

    async def close(self) -> None:
        """Stop it for good, and return when its process is gone."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        self._nowhere.close()
        await self._stopped()

    async def _stopped(self) -> None:
        self._stop()
        ending = self._ending
        if ending is not None and ending.engine is not None:  # a download cannot be interrupted, nor need it be
            await ending.over.wait()

    def state(self) -> ModelState:
        """What is known of it, exactly."""
        now, life = self._clock.monotonic(), self._life
        if life is None:
            if self._failure is not None and (now < self._not_before or self.kept):
                return ModelState(state="failed", reason=self._failure, containers=0)
            return COLD
        if life.ready_at is None:
            return ModelState(state="booting", phase=life.phase, seconds=now - life.began, containers=1)
        boot = None if self.boot is None else {str(phase): took for phase, took in self.boot.seconds.items()}
        return ModelState(state="ready", containers=1, requests=self._seen.active, boot=boot)

    # Its lives

    def _begin(self) -> None:
        if self._ending is not None:  # there may not be room for both
            self._wanted_again = True
            return
        address = Address(host="127.0.0.1", port=free_port())
        clock = self._clock.monotonic
        life = self._life = _Life(address, began=clock(), boot=Boot(monotonic=clock))
        loop = asyncio.get_running_loop()

        def tell(what: Callable[..., None], *arguments: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is there to be told
                loop.call_soon_threadsafe(what, *arguments)

        name = f"engine-{self.model.id}"
        threading.Thread(target=self._keep, args=(life, tell), name=name, daemon=True).start()

    def _keep(self, life: _Life, tell: Callable[..., None]) -> None:
        """A life, from its thread's point of view. Blocks until it is over."""
        error: str | None = None
        try:
            life.engine = self._make(life.address, life.boot)
            if not life.unwanted:
                tell(self._starts, life)
                life.engine.start()
                life.boot.is_ready()
                tell(self._ready, life)
                life.watch = Watch(life.engine, self._health, name=self.model.id)
                life.watch.begin()
                life.engine.wait()
                life.watch.end()
        except EngineStartError as failure:
            error = failure.message
        except Exception:
            log.exception("the engine of %s could not be kept", self.model.id)
            error = "the service could not run its engine; its log says more"
        tell(self._over, life, error)

    def _starts(self, life: _Life) -> None:
        life.phase = "engine"

    def _ready(self, life: _Life) -> None:
        life.ready_at = self._clock.monotonic()
        self._failure = None
        if self._life is life:
            self.boot = life.boot.phases()
            told = {"model": self.model.id, "boot_seconds": dict(self.boot.seconds)}
            log.info("model %s is ready: %s", self.model.id, self.boot, extra=told)
            if self._lives is not None:
                self._lives.ready(self.boot, life.address)
            self._spawn(self._stop_when_idle(life))

    def _over(self, life: _Life, error: str | None) -> None:
        life.over.set()
        if self._lives is not None:
            self._lives.over(life.address, failed=error is not None and not life.unwanted)
        if life is self._ending:
            log.info("model %s is unloaded", self.model.id)
            self._ending = None
            if self._wanted_again and not self._closed:
                self._wanted_again = False
                self._begin()
            return
        self._life = None
        now = self._clock.monotonic()
        if error is not None:
            log.error("model %s cannot be served: %s", self.model.id, error)
            self._failures += 1
            wait = backoff(self._failures)
        else:
            why = life.watch.verdict if life.watch is not None else None
            log.error("the engine of %s is gone: %s", self.model.id, why or "it ended by itself")
            steady = now - life.began >= STEADY_SECONDS
            self._failures = 0 if steady else self._failures + 1
            wait = backoff(self._failures - 1) if self._failures > 1 else 0.0
        self._failure = error
        self._not_before = now + wait
        if self.kept:
            self._spawn(self._start_again(wait))

    async def _start_again(self, wait: float) -> None:
        await self._clock.sleep(wait)
        if self.kept and self._life is None:
            with contextlib.suppress(EngineFailed):
                self.demand()

    async def _stop_when_idle(self, life: _Life) -> None:
        window = float(self.model.scaling.scaledown_window)
        while self._life is life:
            used = max(self._seen.last_used or 0.0, life.ready_at or 0.0)
            left = used + window - self._clock.monotonic()
            busy = self.kept or self._seen.active
            if left <= 0 and not busy:
                log.info("model %s was idle for %.0f s: unloading it", self.model.id, window)
                self._stop()
                return
            await self._clock.sleep(min(LOOK_SECONDS, window) if busy else left)

    def _stop(self) -> None:
        """Have the present life end; `_over` comes when it has."""
        self._wanted_again = False
        life = self._life
        if life is None:
            return
        self._life, self._ending = None, life
        self._failures = 0
        life.unwanted = True
        threading.Thread(
            target=self._end, args=(life, self._seen.active > 0), name=f"stop-{self.model.id}", daemon=True
        ).start()

    @staticmethod
    def _end(life: _Life, busy: bool) -> None:
        """`busy`: those who are answered wait to be told that it ends."""
        if life.watch is not None:  # while it ends it says that it is not well
            life.watch.end()
        if life.engine is not None:
            life.engine.stop(at_once=busy)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name=f"{self.model.id} of this machine", context=apart())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
