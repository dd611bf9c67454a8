"""The containers of a Server: they take HTTP requests from the ingress, boot on demand, and leave on SIGTERM."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from emulator.scheduler.leaving import EXIT_GRACE, ServerLeaving
from emulator.scheduler.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from emulator.scheduler.leaving import Leaving
    from emulator.scheduler.services import Services
    from emulator.scheduler.slot import Slot
    from emulator.state import FunctionRecord

ACCEPT_INTERVAL = 0.02
"""Seconds between two looks at whether a Server's port accepts, while its container starts."""

HEALTH_INTERVAL = 5.0
"""Seconds between two looks at whether it still does."""

MOST_FAILURES = 10
"""In a row, after which the container is ended and replaced: as in `modal.experimental.flash`."""


class ServerPool(Pool):
    """A pool whose work is requests, which the ingress hands to containers itself."""

    def __init__(
        self, record: FunctionRecord, services: Services, retired: Callable[[Pool], None] = lambda _: None
    ) -> None:
        super().__init__(record, services, retired)
        self._demanded = False
        self._waiting = 0

    def demand(self) -> None:
        """A request found no container that takes it: one is to boot. Holds until one has, or has failed to."""
        if not self._demanded:
            self._demanded = True
            self.touch()

    @property
    def demanded(self) -> bool:
        """Whether a request has found no container, and none has booted since."""
        return self._demanded

    @property
    def headroom(self) -> int:
        """Its requests are not inputs."""
        return 0

    def targets(self) -> list[Slot]:
        """Containers that take requests: those of an older version drain when the first of the new one is ready."""
        return [slot for slot in self.slots.values() if slot.state == "ready" and not slot.doomed]

    def serves(self, task_id: str) -> bool:
        """Whether a container still serves what it has begun to."""
        slot = self.slots.get(task_id)
        return slot is not None and slot.state in ("ready", "draining") and not slot.doomed

    @contextmanager
    def queued(self) -> Iterator[None]:
        """Something waits for room in a container while the context is open."""
        self._waiting += 1
        self.touch()
        try:
            yield
        finally:
            self._waiting -= 1
            self.touch()

    def request_begins(self, slot: Slot) -> None:
        slot.requests += 1
        slot.idle_since = None
        self._given(slot, 1)
        self.touch()

    def request_ends(self, slot: Slot) -> None:
        slot.requests -= 1
        slot.served_at = self._clock.monotonic()
        if not slot.requests:
            slot.idle_since = slot.served_at
            if slot.state == "draining" and (slot.terminate_at is not None or slot.kill_at is None):
                slot.terminate_at = slot.served_at
                slot.kill_at = slot.kill_at or slot.served_at + EXIT_GRACE
        self.touch()

    def serving(self, slot: Slot) -> None:
        """The container says that it is up; it takes requests once its port accepts connections."""
        self._tasks.spawn(self._until_accepting(slot))

    async def _until_accepting(self, slot: Slot) -> None:
        while slot.state == "starting" and slot.container is not None:
            try:
                connection = await slot.container.dial(self.record.definition.http_config.port)
            except OSError:
                await self._clock.outside.sleep(ACCEPT_INTERVAL)
                continue
            connection.close()
            self.ready(slot)
            await self._watch(slot)

    async def _watch(self, slot: Slot) -> None:
        """See to it that the port goes on accepting."""
        failures = 0
        while slot.state == "ready" and slot.container is not None and not slot.doomed:
            try:
                (await slot.container.dial(self.record.definition.http_config.port)).close()
                failures = 0
            except OSError:
                failures += 1
            if failures >= MOST_FAILURES:
                self._services.say(f"{self.record.tag}: the port of container {slot.task_id} is closed: it is replaced")
                self.kill(slot)
                return
            await self._clock.outside.sleep(HEALTH_INTERVAL)

    def ready(self, slot: Slot) -> None:
        self._demanded = False
        super().ready(slot)

    def _boot_failed(self) -> None:
        # The next request asks again, and finds the back-off in force.
        self._demanded = False

    def _pending(self) -> int:
        stale_targets = any(slot.state == "ready" and not self._fleet.fresh(slot) for slot in self.slots.values())
        return max(int(self._demanded or stale_targets), self._waiting)

    def _leaving(self) -> Leaving:
        return ServerLeaving(self.record)

    def _turn_over(self) -> None:
        """Old containers go on until a new one accepts: see `targets`, `_pending` and `ready`."""
