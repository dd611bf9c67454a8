"""Which finished calls are still there, and what is left of those that are not. Knows the calls' ids and weights alone.

Modal keeps the result of a `.spawn` for 7 days after completion (https://modal.com/docs/guide/job-queue) and says
`OutputExpiredError` afterwards. Here they may have to go sooner, when there are too many or too much of them; then
they are expired as well, never unknown.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from emulator.scheduler.kept import Kept

if TYPE_CHECKING:
    from collections.abc import Callable

    from emulator.clock import Clock

RESULTS_KEPT_SECONDS = 7 * 24 * 3600.0
"""After a call's completion."""
SPAWNED_RESULTS_KEPT = 10_000
"""Finished `.spawn` calls whose results may still be asked for."""
FINISHED_CALLS_KEPT = 1000
"""Calls whose caller has taken the outputs, or will not come for them: kept a while for readers of their streams."""
UNCLAIMED_CALLS_KEPT = 10_000
"""Finished calls whose caller has not taken the outputs, and may have died."""
KEPT_BYTES = 256 << 20
"""Of outputs and streams in memory, for each of these three."""
KEPT_BLOB_BYTES = 4 << 30
"""Of inputs and outputs on disk, for all finished calls together."""
EXPIRED_KNOWN = 20_000
"""Calls that are gone and still known to have been there."""

Kind = Literal["taken", "spawned", "unclaimed"]


@dataclass(frozen=True)
class Expired:
    """What is left of a call."""

    function_id: str
    info: bytes
    """A serialized `FunctionCallInfo`."""


class Retention:
    """Told of every finished call. `forget` is called for those that have to go."""

    def __init__(self, clock: Clock, forget: Callable[[str], None]) -> None:
        self._clock = clock
        self._forget = forget
        self._kinds: dict[Kind, Kept] = {
            "taken": Kept(count=FINISHED_CALLS_KEPT, weight=KEPT_BYTES),
            "spawned": Kept(count=SPAWNED_RESULTS_KEPT, weight=KEPT_BYTES),
            "unclaimed": Kept(count=UNCLAIMED_CALLS_KEPT, weight=KEPT_BYTES),
        }
        self._blobs = Kept(count=SPAWNED_RESULTS_KEPT + UNCLAIMED_CALLS_KEPT, weight=KEPT_BLOB_BYTES)
        self._finished_at: dict[str, float] = {}
        self._expired: OrderedDict[str, Expired] = OrderedDict()

    def keep(self, call_id: str, kind: Kind, *, weight: int, blob_bytes: int) -> None:
        """That call has finished, or is of that kind from now on. `weight` is in bytes of memory."""
        for other in self._kinds.values():
            other.drop(call_id)
        self._finished_at.setdefault(call_id, self._clock.monotonic())
        gone = self._kinds[kind].add(call_id, weight)
        if blob_bytes:
            gone += self._blobs.add(call_id, blob_bytes)
        for oldest in gone:
            self._forget(oldest)

    def used(self, call_id: str) -> None:
        """Somebody asked for it: others go before it does."""
        for kind in ("spawned", "unclaimed"):
            self._kinds[kind].used(call_id)
        self._blobs.used(call_id)

    def goes_on(self, call_id: str) -> None:
        """It is not finished after all: a map that has got another input."""
        self._drop(call_id)

    def outlived(self, call_id: str) -> bool:
        """Whether its time is over."""
        finished = self._finished_at.get(call_id)
        return finished is not None and self._clock.monotonic() - finished > RESULTS_KEPT_SECONDS

    def gone(self, call_id: str, remains: Expired | None) -> None:
        """It has been forgotten, and so will be whether it ever was, where nothing remains."""
        self._drop(call_id)
        if remains is not None:
            self._expired[call_id] = remains
        while len(self._expired) > EXPIRED_KNOWN:
            self._expired.popitem(last=False)

    def expired(self, call_id: str) -> Expired | None:
        """What is left of a call that is gone; `None` for one that is there, or was never."""
        return self._expired.get(call_id)

    def _drop(self, call_id: str) -> None:
        for kept in (*self._kinds.values(), self._blobs):
            kept.drop(call_id)
        self._finished_at.pop(call_id, None)
