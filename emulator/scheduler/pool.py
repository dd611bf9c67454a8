"""The containers of one function (and one set of bound parameters): started, fed, drained and replaced."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from modal_proto import api_pb2

from emulator.ids import new_id
from emulator.scheduler.autoscaler import Load, Policy, Supply, decide
from emulator.scheduler.lives import Lives
from emulator.scheduler.policy import boot_backoff, limits, scaling_policy
from emulator.scheduler.slot import Slot
from emulator.scheduler.tasks import Tasks
from emulator.scheduler.work import Work
from emulator.signals import Signal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from emulator.scheduler.calls import Input
    from emulator.scheduler.services import Services
    from emulator.state import FunctionRecord

EXIT_GRACE = 30.0
"""Seconds for exit handlers, from the request to leave until the kill."""
CLOSE_LIMIT = 10.0
"""Seconds after the kill in which a container must have ended, before the pool closes without it."""
TICK_AGAIN = 1.0
"""Seconds until the next look after one that raised."""
BOOT_ATTEMPTS = 3
"""Containers that may die silently in a row while starting before those who wait are told."""

Result = api_pb2.GenericResult
STOPPED = Result(status=Result.GENERIC_STATUS_TERMINATED, exception="The app was stopped")


class Pool:
    """Runs from `start` to `close`; everything in between happens on the emulator's loop."""

    def __init__(
        self, record: FunctionRecord, services: Services, retired: Callable[[Pool], None] = lambda _: None
    ) -> None:
        self.record = record
        self._retired = retired
        self.slots: dict[str, Slot] = {}
        self._services = services
        self._clock = services.clock
        self._failures = 0
        self._not_before = 0.0
        self._unmet_since: float | None = None
        self._closing = False
        self._dirty = True
        self._changed = Signal()
        self._tasks = Tasks(lambda text: services.say(f"{record.tag}: {text}"))
        self._lives = Lives(record, services, self._gone)
        self.work = Work(
            calls=services.calls,
            clock=services.clock,
            definition=lambda: record.definition,
            spawn=self._tasks.spawn,
            changed=self.touch,
        )

    # Life of the pool

    def start(self) -> None:
        self._tasks.spawn(self._run())

    def touch(self) -> None:
        """Something changed: decide again, and wake as many waiting containers as there are inputs."""
        self._dirty = True
        self._changed.notify()
        self._services.changed.notify()
        if self.work.pending:
            waiting = [slot for slot in self.slots.values() if slot.polling]
            # The busiest first, so that the others become idle for long enough to leave.
            waiting.sort(key=lambda slot: (-slot.active, -(slot.idle_since or 0.0)))
            for slot in waiting[: self.work.pending]:
                slot.changed.notify()

    async def _run(self) -> None:
        while True:
            self._dirty = False
            wake_at = self._look(self._clock.monotonic())
            if self._unneeded():
                self._retired(self)
                return
            timeout = None if wake_at is None else max(0.0, wake_at - self._clock.monotonic())
            try:
                async with self._clock.timeout(timeout):
                    while not self._dirty:
                        await self._changed.wait()
            except TimeoutError:
                pass

    def _unneeded(self) -> bool:
        """Whether it has nothing to do nor to remember: one of many that bound parameters make, and that come back."""
        return (
            bool(self.record.base_function_id)
            and not self._closing
            and not self.slots
            and not self._pending()
            and not self._failures
            and not self.policy.min_containers
            and len(self._tasks) == 1
        )

    async def close(self, *, grace: float) -> None:
        """Have every container leave, kill those that have not after `grace` seconds, and stop."""
        self._closing = True
        self.work.close(STOPPED)
        now = self._clock.monotonic()
        for slot in list(self.slots.values()):
            if slot.state == "starting" or not grace:
                self.kill(slot)
            else:
                self._drain(slot, now)
                self._leave_at_once(slot, now)
                slot.kill_at = now + grace
        self.touch()
        await self._lives.ended(self.slots.values(), within=grace + CLOSE_LIMIT)
        await self._tasks.close()

    # Deciding

    @property
    def policy(self) -> Policy:
        return scaling_policy(self.record.definition, machine_limit=self._services.machine_limit)

    def _look(self, now: float) -> float | None:
        """One tick. A pool that stopped deciding would hang all who wait: what goes wrong is said, and tried again."""
        try:
            return self._tick(now)
        except Exception as error:
            self._services.say(f"{self.record.tag}: an error of the emulator's own: {error!r}")
            return now + TICK_AGAIN

    def _tick(self, now: float) -> float | None:
        for slot in list(self.slots.values()):
            self._enforce(slot, now)
        wake_at = None if self._closing else self._scale(now)
        moments = [wake_at, *(slot.next_deadline() for slot in self.slots.values())]
        return min((at for at in moments if at is not None), default=None)

    def _scale(self, now: float) -> float | None:
        load = self._load()
        decision = decide(self.policy, load, now)
        short = decision.wanted > len(load.supply)
        self._unmet_since = (self._unmet_since or now) if short else None
        for _ in range(decision.start):
            self._boot(now)
        for task_id in decision.stop:
            self._drain(self.slots[task_id], now)
        return decision.wake_at

    def _load(self) -> Load:
        fresh = [slot for slot in self.slots.values() if self._is_supply(slot)]
        pending = self._pending()
        short = pending or self.policy.min_containers > len(fresh)
        return Load(
            pending=pending,
            running=sum(slot.active for slot in fresh),
            supply=tuple(Supply(slot.task_id, slot.idle_since) for slot in fresh),
            start_slots=self._services.limiter.free(self, self.touch) if short else self._services.machine_limit,
            not_before=self._not_before,
            unmet_since=self._unmet_since,
        )

    def _pending(self) -> int:
        """Work that no container has taken yet."""
        return self.work.pending

    def _is_fresh(self, slot: Slot) -> bool:
        return slot.version == self.record.version

    def _is_supply(self, slot: Slot) -> bool:
        return slot.state in ("starting", "ready") and self._is_fresh(slot) and not slot.doomed

    def _enforce(self, slot: Slot, now: float) -> None:
        """What a container may no longer do now."""
        if slot.doomed:
            return
        if slot.state == "starting" and now >= slot.startup_deadline:
            seconds = int(limits(self.record.definition).startup_timeout)
            slot.boot_result = Result(
                status=Result.GENERIC_STATUS_INIT_FAILURE,
                exception=f"Container {slot.task_id} did not start within its startup timeout of {seconds}s",
            )
            slot.boot_noted = True
            self.kill(slot)
            self._note_failed_boot(slot, "")
        if self.work.expire(slot, now) or (slot.kill_at is not None and now >= slot.kill_at):
            self.kill(slot)
        if slot.terminate_at is not None and now >= slot.terminate_at:
            slot.terminate_at = None
            if slot.container is not None:
                slot.container.terminate()

    # Containers

    def _boot(self, now: float) -> None:
        task_id = new_id("ta")
        slot = Slot(
            task_id,
            self.record.version,
            started_at=now,
            created_at=self._clock.time(),
            startup_deadline=now + limits(self.record.definition).startup_timeout,
        )
        self.slots[task_id] = slot
        self._services.places[task_id] = (self, slot)
        self._services.limiter.begin(task_id)
        self._lives.begin(slot)

    def ready(self, slot: Slot) -> None:
        """The container has booted: it asks for inputs, or its server listens."""
        if slot.state != "starting":
            return
        slot.state = "ready"
        slot.idle_since = self._clock.monotonic()
        self._failures = 0
        self._services.limiter.end(slot.task_id)
        if self._is_fresh(slot):
            self._retire_stale()
        self.touch()

    def boot_failed(self, slot: Slot, result: api_pb2.GenericResult) -> None:
        """The container reports that its import or an enter method raised; it leaves by itself."""
        if slot.state == "starting":
            slot.boot_result = result
            slot.kill_at = self._clock.monotonic() + limits(self.record.definition).exit_grace + EXIT_GRACE
            slot.boot_noted = True
            self._note_failed_boot(slot, "")
        self.touch()

    def _note_failed_boot(self, slot: Slot, why: str) -> None:
        if not self._is_fresh(slot) or self._closing:
            return
        self._failures += 1
        self._not_before = self._clock.monotonic() + boot_backoff(self._failures)
        if any(self._is_supply(other) and other.state == "ready" for other in self.slots.values()):
            return  # those who wait, wait for that one
        if slot.boot_result is not None:
            self.work.fail_pending(slot.boot_result)
        elif self._failures >= BOOT_ATTEMPTS:
            self.work.fail_pending(Result(status=Result.GENERIC_STATUS_INTERNAL_FAILURE, exception=why))

    def _gone(self, slot: Slot, why: str) -> None:
        if slot.state == "starting" and not slot.boot_noted:
            self._note_failed_boot(slot, why)
        slot.state = "gone"
        self.slots.pop(slot.task_id, None)
        self._services.places.pop(slot.task_id, None)
        self._services.limiter.end(slot.task_id)
        self.work.lose(slot, why)
        slot.changed.notify()
        self.touch()

    def _drain(self, slot: Slot, now: float) -> None:
        """No new work; it leaves once what it has is done."""
        if slot.state == "starting":
            slot.state = "draining"
            self.kill(slot)
            return
        slot.state = "draining"
        self._leave(slot, now)
        slot.changed.notify()
        self.touch()

    def _leave(self, slot: Slot, now: float) -> None:
        """Set the times by which a draining container must have left."""
        if not slot.active:  # a busy one has its inputs' own deadlines, and leaves when it asks for the next
            slot.kill_at = now + EXIT_GRACE

    def _leave_at_once(self, slot: Slot, now: float) -> None:
        """The same, where nobody waits for what it works on any more."""

    def _retire_stale(self) -> None:
        now = self._clock.monotonic()
        for slot in list(self.slots.values()):
            if not self._is_fresh(slot) and slot.state in ("starting", "ready"):
                self._drain(slot, now)

    def published(self) -> None:
        """The function has a new version: containers of the old one leave when they have finished."""
        self._failures = 0
        self._not_before = 0.0
        self._turn_over()
        self.touch()

    def _turn_over(self) -> None:
        self._retire_stale()

    # Work

    async def next_inputs(self, slot: Slot, *, batch: int, linger: float) -> list[Input] | None:
        """The next input, or up to `batch` of them, for a container that asks; `None` tells it to leave."""
        self.ready(slot)
        slot.polling = True
        try:
            while True:
                if slot.state != "ready" or slot.doomed:
                    slot.kill_at = slot.kill_at or self._clock.monotonic() + EXIT_GRACE
                    return None
                if (first := self.work.take(slot)) is not None:
                    break
                await slot.changed.wait()
            taken = [first]
            if batch > 1:
                try:
                    await self._fill_batch(slot, taken, batch, linger)
                except asyncio.CancelledError:
                    self.not_delivered(slot, [item.input_id for item in taken])
                    raise
            return taken
        finally:
            slot.polling = False
            self.touch()

    def not_delivered(self, slot: Slot, input_ids: Sequence[str]) -> None:
        """The container never saw the inputs that it was to get: they are next in line again."""
        self.work.put_back(slot, input_ids)

    async def _fill_batch(self, slot: Slot, taken: list[Input], size: int, linger: float) -> None:
        try:
            async with self._clock.timeout(linger):
                while len(taken) < size:
                    if (item := self.work.take(slot)) is not None:
                        taken.append(item)
                    else:
                        await slot.changed.wait()
        except TimeoutError:
            pass

    def cancel(self, item: Input, *, terminate: bool) -> None:
        slot = self.slots.get(item.task_id)
        self.work.cancel(item, slot)
        if terminate and slot is not None:
            self.kill(slot)

    def stop(self, slot: Slot) -> None:
        """Have one container leave once it has finished what it works on."""
        self._drain(slot, self._clock.monotonic())

    def kill(self, slot: Slot) -> None:
        """End one container now: its inputs go to another."""
        self._lives.kill(slot)
