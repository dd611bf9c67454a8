"""Containers that fail to start or die young: how often in a row, and when the next may be tried. Knows no clock.

As Modal tells it, a container that crashes, while it starts or later, is replaced; where that goes on, the replacements
come more and more slowly, and in the end those who wait are told what keeps the containers from starting
(https://modal.com/docs/guide/retries, and `_process_result` in the client's `function_utils`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from modal_proto import api_pb2

from emulator.scheduler.policy import boot_backoff

if TYPE_CHECKING:
    from collections.abc import Iterable

BOOT_ATTEMPTS = 3
"""Containers that may fail to start in a row before those who wait are told."""
YOUNG = 10.0
"""Seconds from being ready within which a container that dies counts as crashed. What has lasted longer is replaced."""

Result = api_pb2.GenericResult


class Boots:
    """Counts for one pool. Times are seconds on one monotonic scale."""

    def __init__(self) -> None:
        self.failures = 0
        """To start, in a row."""
        self.crashes = 0
        """Of containers that had started, in a row."""
        self.not_before = 0.0
        """No start earlier than this."""
        self._crashed_at = 0.0

    def forget(self) -> None:
        """There is a new version: what the old one failed at says nothing about it."""
        self.failures = self.crashes = 0
        self.not_before = 0.0

    def succeeded(self) -> None:
        """One has started."""
        self.failures = 0

    def failed(self, now: float, result: api_pb2.GenericResult | None, why: str) -> api_pb2.GenericResult | None:
        """Count one that did not start; `result` is what it reported. Returns what those who wait are to be told."""
        self.failures += 1
        self.not_before = now + boot_backoff(self.failures)
        if self.failures < BOOT_ATTEMPTS:
            return None
        return result or Result(status=Result.GENERIC_STATUS_INTERNAL_FAILURE, exception=why)

    def died(self, now: float, *, ready_at: float, served_at: Iterable[float]) -> None:
        """Count one that had started and that nobody stopped; `served_at`: when containers last finished something."""
        if max(served_at, default=0.0) > self._crashed_at:
            self.crashes = 0
        self._crashed_at = now
        if now - ready_at >= YOUNG:
            return
        self.crashes += 1
        # One crash says little, and its input waits: only those that follow are held back.
        self.not_before = max(self.not_before, now + boot_backoff(self.crashes - 1))
