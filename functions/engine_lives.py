"""The metrics of a model's engines on this machine: processes that come and go, each counted as a container is."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from functions.engine_metrics import EngineCounts, readings
from infra.metric_snapshots import Snapshot, total, without_gauges

if TYPE_CHECKING:
    from collections.abc import Callable

    from functions.boot import BootPhases
    from functions.engines.base import Address


class EngineLives:
    """One model's. Belongs to one event loop; what an engine has counted since it was last looked at goes with it."""

    def __init__(self, model: str, *, api_key: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._model = model
        self._key = api_key
        self._monotonic = monotonic
        self._past: Snapshot = {}
        self._address: Address | None = None
        self._told: Snapshot | None = None
        self._counts: EngineCounts | None = None

    def ready(self, phases: BootPhases, address: Address) -> None:
        """An engine serves there."""
        self._address, self._told = address, None
        self._counts = EngineCounts(self._model, lambda: self._told, monotonic=self._monotonic)
        self._counts.booted(phases)

    def over(self, address: Address, *, failed: bool) -> None:
        """The engine that was there, or was to be there, is gone. `failed`: it could not start."""
        if address == self._address and self._counts is not None:
            self._past = without_gauges(self.snapshot())
            self._address = self._told = self._counts = None
        elif failed:
            counts = EngineCounts(self._model, lambda: None, monotonic=self._monotonic)
            counts.failed()
            self._past = total([self._past, without_gauges(counts.snapshot())])

    async def look(self) -> None:
        """Ask the engine that is there, if there is one."""
        address = self._address
        if address is not None:
            # Read there too: some milliseconds, in which the loop has streams to serve.
            told = await asyncio.to_thread(readings, address, self._key, model=self._model)
            if address == self._address and self._counts is not None:
                self._told = told
                self._counts.look()  # which keeps it, should the engine not answer the next time

    def snapshot(self) -> Snapshot:
        """What all of them have counted; gauges of the one that is there."""
        return total([self._past] if self._counts is None else [self._past, self._counts.snapshot()])
