"""Containers that fail to start: how often in a row, when the next may be tried, and what those who wait are told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modal_proto import api_pb2

from emulator.scheduler.policy import boot_backoff

if TYPE_CHECKING:
    from emulator.clock import Clock

BOOT_ATTEMPTS = 3
"""Containers that may die silently in a row while starting before those who wait are told."""

Result = api_pb2.GenericResult


class Boots:
    """Counts one pool's failed boots."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.failures = 0
        """In a row."""
        self.not_before = 0.0
        """No start earlier than this, on the clock's monotonic scale."""

    def forget(self) -> None:
        """There is a new version: what the old one failed at says nothing about it."""
        self.failures = 0
        self.not_before = 0.0

    def succeeded(self) -> None:
        self.failures = 0

    def failed(self, result: api_pb2.GenericResult | None, why: str) -> api_pb2.GenericResult | None:
        """Count one; `result` is what its container reported. Returns what those who wait are to be told, if any."""
        self.failures += 1
        self.not_before = self._clock.monotonic() + boot_backoff(self.failures)
        if result is not None:
            return result
        if self.failures >= BOOT_ATTEMPTS:
            return Result(status=Result.GENERIC_STATUS_INTERNAL_FAILURE, exception=why)
        return None
