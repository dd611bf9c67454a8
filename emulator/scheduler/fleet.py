"""The containers of one pool: begun, found ready, held to their limits, told to leave, and gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modal_proto import api_pb2

from emulator.ids import new_id
from emulator.scheduler.boots import Boots
from emulator.scheduler.leaving import EXIT_GRACE
from emulator.scheduler.lives import Lives
from emulator.scheduler.policy import limits
from emulator.scheduler.slot import Slot

if TYPE_CHECKING:
    from collections.abc import Callable

    from emulator.scheduler.leaving import Leaving
    from emulator.scheduler.services import Services
    from emulator.scheduler.work import Work
    from emulator.state import FunctionRecord

CLOSE_LIMIT = 10.0
"""Seconds after the kill in which a container must have ended, before the pool closes without it."""

Result = api_pb2.GenericResult


class Fleet:
    """Carries out what a pool decides, and knows what has become of it. `changed` is called whenever that changes."""

    def __init__(
        self,
        record: FunctionRecord,
        services: Services,
        *,
        work: Work,
        leaving: Leaving,
        boot_failed: Callable[[], None],
        changed: Callable[[], None],
    ) -> None:
        self.slots: dict[str, Slot] = {}
        self.boots = Boots()
        self.closing = False
        self._record = record
        self._services = services
        self._clock = services.clock
        self._work = work
        self._leaving = leaving
        self._boot_failed = boot_failed
        self._changed = changed
        self._lives = Lives(record, services, self._gone)

    def fresh(self, slot: Slot) -> bool:
        """Whether it runs the version that is in force."""
        return slot.version == self._record.version

    def supply(self) -> list[Slot]:
        """Containers that take, or will take, work of the version in force."""
        return [slot for slot in self.slots.values() if self._is_supply(slot)]

    def leaving(self) -> int:
        """Containers of that version that are still there and take nothing new."""
        return sum(self.fresh(slot) and not self._is_supply(slot) for slot in self.slots.values())

    def _is_supply(self, slot: Slot) -> bool:
        return slot.state in ("starting", "ready") and self.fresh(slot) and not slot.doomed

    # A container's life, in its order

    def boot(self, now: float) -> Slot:
        task_id = new_id("ta")
        slot = Slot(
            task_id,
            self._record.version,
            started_at=now,
            created_at=self._clock.time(),
            startup_deadline=now + limits(self._record.definition).startup_timeout,
        )
        self.slots[task_id] = slot
        self._services.limiter.begin(task_id, now)
        self._lives.begin(slot)
        return slot

    def ready(self, slot: Slot) -> None:
        """It has booted."""
        if slot.state != "starting":
            return
        slot.state = "ready"
        slot.ready_at = slot.idle_since = self._clock.monotonic()
        self._services.history.ready(slot.task_id, self._clock.time())
        self.boots.succeeded()
        self._services.limiter.end(slot.task_id)
        if self.fresh(slot):
            self.retire_stale()
        self._changed()

    def boot_failed(self, slot: Slot, result: api_pb2.GenericResult) -> None:
        """It reports that its import or an enter method raised; it leaves by itself."""
        if slot.state == "starting":
            slot.boot_result = result
            slot.kill_at = self._clock.monotonic() + limits(self._record.definition).exit_grace + EXIT_GRACE
            slot.boot_noted = True
            self._note_failed_boot(slot, "")
        self._changed()

    def _note_failed_boot(self, slot: Slot, why: str, *, final: bool = False) -> None:
        self._boot_failed()
        if not self.fresh(slot) or self.closing:
            return
        told = self.boots.failed(self._clock.monotonic(), slot.boot_result, why)
        if any(other.state == "ready" for other in self.supply()):
            return  # those who wait, wait for that one
        if final:
            told = slot.boot_result
        if told is not None:
            self._work.fail_pending(told)

    def enforce(self, now: float) -> None:
        """What containers may no longer do now."""
        for slot in list(self.slots.values()):
            if not slot.doomed:
                self._enforce(slot, now)

    def _enforce(self, slot: Slot, now: float) -> None:
        if slot.state == "starting" and now >= slot.startup_deadline:
            seconds = int(limits(self._record.definition).startup_timeout)
            slot.boot_result = Result(
                status=Result.GENERIC_STATUS_INIT_FAILURE,
                exception=f"Container {slot.task_id} did not start within its startup timeout of {seconds}s",
            )
            slot.boot_noted = True
            self.kill(slot)
            self._note_failed_boot(slot, "", final=True)
        if slot.state == "draining" and slot.kill_at is None:
            self._leaving.begin(slot, now)  # it was busy when it was told, and may have finished
        if self._work.expire(slot, now) or (slot.kill_at is not None and now >= slot.kill_at):
            self.kill(slot)
        if slot.terminate_at is not None and now >= slot.terminate_at:
            slot.terminate_at = None
            if slot.container is not None:
                slot.container.terminate()

    def next_deadline(self) -> float | None:
        """When `enforce` has something to do at the latest."""
        deadlines = (slot.next_deadline() for slot in self.slots.values())
        return min((at for at in deadlines if at is not None), default=None)

    def drain(self, slot: Slot, now: float) -> None:
        """No new work; it leaves once what it has is done."""
        if slot.state == "starting":
            slot.state = "draining"
            self.kill(slot)
            return
        slot.state = "draining"
        self._leaving.begin(slot, now)
        slot.changed.notify()
        self._changed()

    def retire_stale(self) -> None:
        """Containers of an older version leave when they have finished."""
        now = self._clock.monotonic()
        for slot in list(self.slots.values()):
            if not self.fresh(slot) and slot.state in ("starting", "ready"):
                self.drain(slot, now)

    def interrupt(self, slot: Slot) -> None:
        """Have one leave now, by its exit handlers: what it works on is ended there, and goes to another."""
        now = self._clock.monotonic()
        slot.cut_short = slot.cut_short or bool(slot.active)
        self.drain(slot, now)
        self._leaving.at_once(slot, now)
        self._work.lose(slot, f"Container {slot.task_id} was stopped")  # what it may still say of them counts no more
        slot.kill_at = now + EXIT_GRACE

    def kill(self, slot: Slot) -> None:
        """End one now: its inputs go to another."""
        self._lives.kill(slot)

    def _gone(self, slot: Slot, why: str) -> None:
        if slot.state == "starting" and not slot.boot_noted:
            self._note_failed_boot(slot, why)
        if slot.ready_at is not None and slot.state == "ready" and not slot.doomed and self.fresh(slot):
            served = [other.served_at for other in self.slots.values()]
            self.boots.died(self._clock.monotonic(), ready_at=slot.ready_at, served_at=served)
        slot.state = "gone"
        self.slots.pop(slot.task_id, None)
        self._services.places.pop(slot.task_id, None)
        self._services.limiter.end(slot.task_id)
        self._work.lose(slot, why)
        slot.changed.notify()
        self._changed()

    async def close(self, *, grace: float) -> None:
        """Have every container leave, and kill those that have not after `grace` seconds."""
        self.closing = True
        now = self._clock.monotonic()
        for slot in list(self.slots.values()):
            slot.cut_short = bool(slot.active)
            if slot.state == "starting" or not grace:
                self.kill(slot)
            else:
                self.drain(slot, now)
                self._leaving.at_once(slot, now)
                slot.kill_at = now + grace
        self._changed()
        await self._lives.ended(self.slots.values(), within=grace + CLOSE_LIMIT)
