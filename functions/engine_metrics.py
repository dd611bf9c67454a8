"""The metrics of an engine's container, pushed into the table: no scrape reaches an engine, so none wakes a GPU.

What the engine counts, how its boot went and how long its container was there is written by the same publisher as the
web containers', in a thread of its own.
"""

from __future__ import annotations

import asyncio
import http.client
import logging
import threading
import time
import urllib.request
from typing import TYPE_CHECKING

from functions.engines.asking import ask_directly
from functions.engines.readings import read
from functions.shared import metrics_store, shared_state
from infra.metric_families import family
from infra.metric_snapshots import Shape, Snapshot, less, total, units, without_gauges
from web.clock import RealClock
from web.publishing import Publisher
from web.tallies import Distributions

if TYPE_CHECKING:
    from collections.abc import Callable

    from functions.boot import BootPhases
    from functions.engines.base import Address
    from infra.settings import Model, Settings

READ_SECONDS = 2.0
"""How long an engine may take to tell its metrics: llama.cpp tells nothing in the middle of a batch."""
CLOSE_SECONDS = 15.0
"""How long the last writing may take: of the 30 s that a container has to leave."""

log = logging.getLogger(__name__)


class EngineCounts:
    """What there is to be told of one container. `told`: what the engine tells now; None: nothing."""

    def __init__(
        self, model: str, told: Callable[[], Snapshot | None], *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.publish_errors = 0
        self._model = model
        self._told = told
        self._monotonic = monotonic
        self._began = monotonic()
        self._boots = Distributions(family("engine_boot_seconds").bounds)
        self._failures = 0
        self._before: Snapshot | None = {}
        """What it has counted, and not here. None: what it will have when it next tells something."""
        self._last: Snapshot = {}

    def booted(self, phases: BootPhases) -> None:
        for phase, seconds in phases.seconds.items():
            self._boots.of(self._model, phase).observe(seconds)

    def resumed(self) -> None:
        """What the engine has counted until now was before a snapshot, and is in every container made of it. One that
        does not tell how much that is has counted nothing here until it does."""
        self._before = None
        self.look()

    def failed(self) -> None:
        """The engine could not start."""
        self._failures += 1

    def publish_failed(self) -> None:
        self.publish_errors += 1

    def snapshot(self) -> Snapshot:
        """All of it, now. Asks the engine, and blocks for that. One that does not answer has counted what it last told,
        and has no gauges."""
        self.look()
        here = (self._model,)
        mine = {
            "engine_containers": 1, "engine_container_starts_total": 1,
            "engine_container_seconds_total": self._monotonic() - self._began,
            "engine_boots_failed_total": self._failures,
        }  # fmt: skip
        told: Snapshot = {Shape.of(family(name)): {here: (units(value),)} for name, value in mine.items()}
        told[Shape.of(family("metrics_publish_errors_total"))] = {(): (units(self.publish_errors),)}
        told[Shape.of(family("engine_boot_seconds"))] = self._boots.numbers()
        return total([told, less(self._last, self._before or {})])

    def look(self) -> None:
        """Ask the engine: what it has counted counts from now on, whatever becomes of it. Blocks."""
        told = self._told()
        self._last = without_gauges(self._last) if told is None else told
        if self._before is None and told is not None:
            self._before = without_gauges(told)


class EngineReporter:
    """Writes them on a timer, from `ready` or `failed` until `stop`; where there is no table or no metrics are wanted,
    nothing."""

    def __init__(self, model: Model, settings: Settings, *, address: Address, api_key: str | None) -> None:
        self.counts = EngineCounts(model.id, lambda: readings(address, api_key, model=model.id))
        self._settings = settings
        self._leave = threading.Event()
        self._wake: Callable[[], object] = self._leave.set
        self._thread: threading.Thread | None = None

    def ready(self, phases: BootPhases, *, resumed: bool) -> None:
        """The engine serves. `resumed`: it was in a snapshot."""
        self.counts.booted(phases)
        if resumed:
            self.counts.resumed()
        self._start()

    def failed(self) -> None:
        """The engine could not start, and something else answers for it."""
        self.counts.failed()
        self._start()

    def _start(self) -> None:
        if self._settings.state.kind == "aws" and self._settings.observability.enable_metrics:
            self._thread = threading.Thread(target=self._report, name="metrics", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Write the last time, while the engine is still there to be asked. Idempotent."""
        self._leave.set()
        self._wake()
        if self._thread is not None:
            self._thread.join(CLOSE_SECONDS)
            if self._thread.is_alive():
                log.error("the last metrics of this container are lost: writing them takes too long")
            self._thread = None

    def _report(self) -> None:
        while True:
            try:
                asyncio.run(self._run())
            except Exception:  # nothing was written yet, or it is leaving: a new row counts nothing twice
                log.exception("the metrics of this container were not written")
                self.counts.publish_failed()
            else:
                return
            self._wake = self._leave.set
            if self._leave.wait(self._settings.metrics.publish_interval):
                return

    async def _run(self) -> None:
        loop, leave = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(leave.set)

        self._wake = wake
        state = shared_state(self._settings)
        store = metrics_store(state, self._settings)
        if state is None or store is None:
            return
        publisher = Publisher(
            store, self.counts.snapshot, clock=RealClock(), interval=self._settings.metrics.publish_interval,
            failed=self.counts.publish_failed,
        )  # fmt: skip
        try:
            publisher.begin()
            if not self._leave.is_set():
                await leave.wait()
            await publisher.close()
        finally:
            await asyncio.to_thread(state.clients.close)


def readings(address: Address, api_key: str | None, *, model: str) -> Snapshot | None:
    """What an engine of `model` (its id) tells at `/metrics`, read; None where it tells nothing that can be. Blocks."""
    text = ask(address, api_key)
    if text is None:
        return None
    try:
        return read(text, model=model)
    except (ValueError, LookupError, OverflowError) as error:  # no text of metrics, no `le`, no finite number
        log.warning("the engine's metrics cannot be read: %s", error)
        return None


def ask(address: Address, api_key: str | None) -> str | None:
    request = urllib.request.Request(address.url + "/metrics")  # noqa: S310 - http, ours
    if api_key:
        request.add_header("authorization", f"Bearer {api_key}")
    try:
        with ask_directly(request, timeout=READ_SECONDS) as answer:
            return answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return None
