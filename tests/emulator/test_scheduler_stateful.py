"""A real pool under a turned clock, with containers that are not there, through whatever hypothesis thinks of."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from modal_proto import api_pb2

from emulator.scheduler.limiter import HOLD
from emulator.scheduler.policy import BACKOFF_LAST
from tests.emulator.heart_kit import FakeMachine, settle, slot_of, succeeded

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from emulator.scheduler.calls import Call, Input
    from tests.emulator.heart_kit import FakeContainer

STARTS = 2
LEAVING = 4.0
"""Seconds that a container's exit handlers take."""
Settings = api_pb2.AutoscalerSettings
BROKEN = api_pb2.GenericResult(status=api_pb2.GenericResult.GENERIC_STATUS_FAILURE, exception="cannot start")


class Guest:
    """What the runtime in a container does: it asks, works until it is told that it is done, and leaves when told."""

    def __init__(self, machine: FakeMachine, container: FakeContainer) -> None:
        self.container = container
        self.held: Input | None = None
        self._machine = machine
        self._done = asyncio.Event()
        self.task = asyncio.create_task(self._run())
        container._ended.add_done_callback(lambda _: self.task.cancel())

    async def _run(self) -> None:
        while (place := self._machine.scheduler.find(self.container.task_id)) is not None:
            pool, slot = place
            taken = await pool.next_inputs(slot, batch=0, linger=0)
            if taken is None:
                await self._machine.clock.sleep(LEAVING)
                self.container.end(0)
                return
            (self.held,) = taken
            await self._done.wait()
            self._done.clear()
            pool.work.complete(slot, succeeded(self.held))
            self.held = None

    def finish(self) -> None:
        self._done.set()


class PoolMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.calls: list[Call] = []
        self.guests: dict[str, Guest] = {}
        self.peak = 0
        """Containers of the version in force that there may be: the maximum, or what a lowered one found."""

    def do(self, work: Coroutine[Any, Any, Any]) -> None:
        self.loop.run_until_complete(work)

    @initialize(low=st.integers(0, 2), extra=st.integers(1, 3), buffer=st.integers(0, 1))
    def deployed(self, low: int, extra: int, buffer: int) -> None:
        self.settings = Settings(
            min_containers=low, max_containers=low + extra, buffer_containers=buffer, scaledown_window=5
        )

        async def deploy() -> None:
            self.machine = FakeMachine(max_starting=STARTS)
            self.pool = self.machine.deploy(autoscaler_settings=self.settings)
            await settle()

        self.do(deploy())

    # What there is

    def alive(self) -> list[FakeContainer]:
        return [container for container in self.machine.started if container.task_id in self.pool.slots]

    def starting(self) -> list[FakeContainer]:
        return [
            container
            for container in self.alive()
            if container.task_id not in self.guests and slot_of(self.pool, container).state == "starting"
        ]

    def working(self) -> list[Guest]:
        return [guest for guest in self.guests.values() if guest.held is not None and not guest.task.done()]

    # What happens

    @rule(count=st.integers(1, 4))
    def call(self, count: int) -> None:
        async def call() -> None:
            self.calls += [self.machine.call()[0] for _ in range(count)]
            await settle()

        self.do(call())

    @rule(seconds=st.sampled_from([0.06, 0.3, HOLD, 6.0, 40.0]))
    def time_passes(self, seconds: float) -> None:
        self.do(self.machine.clock.turn(seconds))

    @precondition(lambda self: self.starting())
    @rule()
    def those_that_start_are_ready(self) -> None:
        async def boot() -> None:
            for container in self.starting():
                self.guests[container.task_id] = Guest(self.machine, container)
            await settle()

        self.do(boot())

    @precondition(lambda self: self.starting())
    @rule()
    def one_fails_to_start(self) -> None:
        async def fail() -> None:
            container = self.starting()[0]
            self.pool.boot_failed(slot_of(self.pool, container), BROKEN)
            container.end(1)
            await settle()

        self.do(fail())

    @precondition(lambda self: self.working())
    @rule(which=st.integers(0, 5))
    def one_finishes(self, which: int) -> None:
        async def finish() -> None:
            working = self.working()
            working[which % len(working)].finish()
            await settle()

        self.do(finish())

    @precondition(lambda self: self.alive())
    @rule(which=st.integers(0, 5), how=st.sampled_from(["dies", "is killed", "is stopped"]))
    def one_ends(self, which: int, how: str) -> None:
        async def end() -> None:
            alive = self.alive()
            container = alive[which % len(alive)]
            slot = slot_of(self.pool, container)
            {"dies": lambda: container.end(-9), "is killed": lambda: self.pool.kill(slot)}.get(
                how, lambda: self.pool.stop(slot)
            )()
            await settle()

        self.do(end())

    @rule(low=st.integers(0, 2), extra=st.integers(1, 3), buffer=st.integers(0, 1))
    def autoscaler_is_updated(self, low: int, extra: int, buffer: int) -> None:
        async def update() -> None:
            self.pool.record.overrides.CopyFrom(
                Settings(min_containers=low, max_containers=low + extra, buffer_containers=buffer)
            )
            self.pool.touch()
            await settle()

        self.do(update())

    @rule()
    def it_is_deployed_again(self) -> None:
        async def deploy() -> None:
            self.machine.deploy(autoscaler_settings=self.settings)
            await settle()

        self.peak = 0
        self.do(deploy())

    # What holds

    @invariant()
    def never_above_the_maximum(self) -> None:
        if not hasattr(self, "pool"):
            return
        of_this_version = sum(slot.version == self.pool.record.version for slot in self.pool.slots.values())
        self.peak = max(self.pool.policy.max_containers, min(self.peak, of_this_version))
        assert of_this_version <= self.peak

    @invariant()
    def never_more_than_two_boots_begin_at_once(self) -> None:
        if not hasattr(self, "pool"):
            return
        now = self.machine.clock.monotonic()
        young = [slot for slot in self.pool.slots.values() if slot.state == "starting" and slot.started_at > now - HOLD]
        assert len(young) <= STARTS

    @invariant()
    def nobody_is_answered_twice(self) -> None:
        for call in self.calls:
            assert len(call.order) == len(call.outputs) == 1 - call.unfinished

    def teardown(self) -> None:
        if hasattr(self, "pool"):
            self.do(self._wind_up())
        self.loop.close()

    async def _wind_up(self) -> None:
        """From here on containers start and work: everyone is answered, and what is left is the minimum."""
        for _ in range(100):
            if not any(call.unfinished for call in self.calls):
                break
            for container in self.starting():
                self.guests[container.task_id] = Guest(self.machine, container)
            for guest in self.working():
                guest.finish()
            await self.machine.clock.turn(HOLD)
        outcomes = [call.outputs[0].result for call in self.calls]
        told = [result for result in outcomes if result.status != api_pb2.GenericResult.GENERIC_STATUS_SUCCESS]
        assert all(result.exception == BROKEN.exception or "exit code" in result.exception for result in told)
        for _ in range(5):
            for container in self.starting():
                self.guests[container.task_id] = Guest(self.machine, container)
            await self.machine.clock.turn(BACKOFF_LAST)
        assert len(self.pool.slots) == self.pool.policy.min_containers
        assert self.machine.said == [line for line in self.machine.said if "emulator's own" not in line]
        closing = asyncio.create_task(self.machine.scheduler.close())
        await self.machine.clock.turn(60)
        await closing
        for guest in self.guests.values():
            guest.task.cancel()
        await asyncio.gather(*(guest.task for guest in self.guests.values()), return_exceptions=True)


PoolMachine.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # a failure is told at once: shrinking takes minutes
)
test_whatever_happens_a_pool_keeps_to_its_policy = PoolMachine.TestCase
