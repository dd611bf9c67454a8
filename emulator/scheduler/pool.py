"""The containers of one function (and one set of bound parameters), and the work that they are there for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from modal_proto import api_pb2

from emulator.scheduler.autoscaler import Load, Policy, Supply, decide, unmet_since
from emulator.scheduler.fleet import Fleet
from emulator.scheduler.handing import Handing
from emulator.scheduler.leaving import FunctionLeaving
from emulator.scheduler.policy import PATIENCE, scaling_policy
from emulator.scheduler.tasks import Tasks
from emulator.scheduler.ticker import Ticker
from emulator.scheduler.work import Work

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from emulator.scheduler.calls import Input
    from emulator.scheduler.leaving import Leaving
    from emulator.scheduler.services import Services
    from emulator.scheduler.slot import Slot
    from emulator.state import FunctionRecord

Result = api_pb2.GenericResult
STOPPED = Result(status=Result.GENERIC_STATUS_TERMINATED, exception="The app was stopped")


class Pool:
    """Runs from `start` to `close`; everything in between happens on the emulator's loop."""

    def __init__(
        self, record: FunctionRecord, services: Services, retired: Callable[[Pool], None] = lambda _: None
    ) -> None:
        self.record = record
        self._retired = retired
        self._services = services
        self._clock = services.clock
        self._unmet_since: float | None = None
        self._known: tuple[tuple[object, ...], Policy] | None = None
        """The policy, with what it was worked out from."""
        self._tasks = Tasks(lambda text: services.say(f"{record.tag}: {text}"))
        self._ticker = Ticker(clock=services.clock, look=self._tick, over=self._unneeded, failed=self._tick_failed)
        self.work = Work(
            calls=services.calls,
            clock=services.clock,
            definition=lambda: record.definition,
            spawn=self._tasks.spawn,
            changed=self.touch,
            note=lambda task_id, text: services.on_output(task_id, "system", text),
        )
        self._fleet = Fleet(
            record,
            services,
            work=self.work,
            leaving=self._leaving(),
            boot_failed=self._boot_failed,
            changed=self.touch,
        )
        self.slots = self._fleet.slots
        self._handing = Handing(work=self.work, clock=services.clock, changed=self.touch)

    # Life of the pool

    def start(self) -> None:
        self._tasks.spawn(self._run())

    async def _run(self) -> None:
        await self._ticker.run()
        self._retired(self)

    def touch(self) -> None:
        """Something changed: decide again, and wake as many waiting containers as there are inputs."""
        self._ticker.touch()
        self._services.changed.notify()
        self._handing.wake(self.slots.values())

    def _unneeded(self) -> bool:
        """Whether it has nothing to do nor to remember: one of many that bound parameters make, and that come back."""
        return (
            bool(self.record.base_function_id)
            and not self._fleet.closing
            and not self.slots
            and not self._pending()
            and not self._fleet.boots.failures
            and not self.policy.min_containers
            and len(self._tasks) == 1
        )

    def published(self) -> None:
        """The function has a new version: containers of the old one leave when they have finished."""
        self._fleet.boots.forget()
        self._turn_over()
        self.touch()

    def _turn_over(self) -> None:
        self._fleet.retire_stale()

    async def close(self, *, grace: float, told: api_pb2.GenericResult = STOPPED) -> None:
        """Have every container leave, kill those that have not after `grace` seconds, and stop.

        `told` is what those learn who wait for a result.
        """
        self._fleet.closing = True
        self._services.limiter.leave(self.record.function_id)
        self.work.close(told)
        await self._fleet.close(grace=grace)
        await self._tasks.close()

    # Deciding

    @property
    def policy(self) -> Policy:
        """What holds now. Asked for several times for each input, and worked out anew only when something changed."""
        record = self.record
        said = (record.version, id(record.definition), record.overrides.SerializeToString(), record.incomplete)
        if self._known is None or self._known[0] != said:
            found = scaling_policy(
                record.definition,
                machine_limit=self._services.machine_limit,
                overrides=record.overrides,
                # A clock that has to be turned would have them wait for as long as it is not.
                patience=PATIENCE if self._clock.outside is self._clock else 0.0,
            )
            self._known = said, replace(found, min_containers=0) if record.incomplete else found
        return self._known[1]

    def _tick(self, now: float) -> float | None:
        self._fleet.enforce(now)
        moments = [None if self._fleet.closing else self._scale(now), self._fleet.next_deadline()]
        return min((at for at in moments if at is not None), default=None)

    def _tick_failed(self, error: Exception) -> None:
        self._services.say(f"{self.record.tag}: an error of the emulator's own: {error!r}")

    def _scale(self, now: float) -> float | None:
        load = self._load(now)
        decision = decide(self.policy, load, now)
        self._unmet_since = unmet_since(load, decision, now)
        if decision.waits_for_place:
            self._services.limiter.wait(self.record.function_id, self.touch)
        else:
            self._services.limiter.leave(self.record.function_id)
        for _ in range(decision.start):
            slot = self._fleet.boot(now)
            self._services.places[slot.task_id] = (self, slot)
        for task_id in decision.stop:
            self._fleet.drain(self.slots[task_id], now)
        if decision.start:
            self._ticker.touch()  # until nothing is left to decide: what it says of the time to come counts then
        return decision.wake_at

    def _load(self, now: float) -> Load:
        supply = self._fleet.supply()
        return Load(
            pending=self._pending(),
            running=sum(slot.active for slot in supply),
            supply=tuple(
                Supply(slot.task_id, slot.idle_since, starting=slot.state == "starting", active=slot.active)
                for slot in supply
            ),
            leaving=self._fleet.leaving(),
            start_slots=self._services.limiter.free(self.record.function_id, now),
            slots_at=self._services.limiter.frees_at(),
            not_before=self._fleet.boots.not_before,
            unmet_since=self._unmet_since,
        )

    # What another kind of pool does differently

    def _leaving(self) -> Leaving:
        return FunctionLeaving()

    def _pending(self) -> int:
        """Work that no container has taken yet."""
        return self.work.pending

    def _boot_failed(self) -> None:
        """A container has failed to boot."""

    # What it is asked

    @property
    def headroom(self) -> int:
        """Inputs that the containers which are there could take at once."""
        definition = self.record.definition
        most = definition.max_concurrent_inputs or definition.batch_max_size or 1
        return sum(max(0, most - slot.active) for slot in self._fleet.supply() if slot.state == "ready")

    # What containers report and ask for

    def ready(self, slot: Slot) -> None:
        """The container has booted: it asks for inputs, or its server listens."""
        self._fleet.ready(slot)

    def boot_failed(self, slot: Slot, result: api_pb2.GenericResult) -> None:
        """The container reports that its import or an enter method raised; it leaves by itself."""
        self._fleet.boot_failed(slot, result)

    async def next_inputs(self, slot: Slot, *, batch: int, linger: float) -> list[Input] | None:
        """The next input, or up to `batch` of them, for a container that asks; `None` tells it to leave."""
        self.ready(slot)
        taken = await self._handing.next_inputs(slot, batch=batch, linger=linger)
        if taken:
            self._given(slot, len(taken))
        return taken

    def _given(self, slot: Slot, count: int) -> None:
        """The container has got so many inputs, or requests, more: that may be its planned end."""
        if self._services.plans.dies(self.record, slot.task_id, given=count):
            self.kill(slot)

    def not_delivered(self, slot: Slot, input_ids: Sequence[str]) -> None:
        """The container never saw the inputs that it was to get: they are next in line again."""
        self.work.put_back(slot, input_ids)

    # What others ask of it

    @property
    def busy(self) -> bool:
        """Whether an input waits, is worked on or is to be tried again, or a request is served."""
        return bool(self.work.unfinished) or any(slot.active for slot in self.slots.values())

    def cancel(self, item: Input, *, terminate: bool) -> None:
        slot = self.slots.get(item.task_id)
        self.work.cancel(item, slot)
        if terminate and slot is not None:
            self.kill(slot)

    def stop(self, slot: Slot) -> None:
        """Have one container leave once it has finished what it works on."""
        self._fleet.drain(slot, self._clock.monotonic())

    def interrupt(self, slot: Slot) -> None:
        """Have one container leave now, by its exit handlers: its inputs go to another."""
        self._fleet.interrupt(slot)

    def kill(self, slot: Slot) -> None:
        """End one container without a word: its inputs go to another."""
        self._fleet.kill(slot)
