"""A scheduler under a virtual clock, whose containers are tasks that take their (real) time for every step."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from emulator.busy import Busy
from emulator.ingress.moving import Moving
from emulator.protocol.grpc import Traffic
from emulator.virtual_clock import VirtualClock
from tests.emulator.heart_kit import FakeContainer, FakeMachine, succeeded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from emulator.containers.base import ContainerSpec
    from emulator.scheduler.calls import Input
    from emulator.scheduler.pool import Pool
    from emulator.scheduler.slot import Slot

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
Code = Callable[["Worker", "Input"], Awaitable[None]]


async def at_once(_worker: Worker, _item: Input) -> None:
    """A function that returns."""


class Worker(FakeContainer):
    """Boots, asks for inputs, runs `code` for each, and leaves when it is told: as the client's runtime does."""

    def __init__(self, machine: VirtualMachine, spec: ContainerSpec) -> None:
        super().__init__(spec)
        self._machine = machine
        self._life = asyncio.create_task(self._live())
        self.waits = False

    @property
    def inside(self) -> Worker:
        return self

    def at_rest(self, *, held: int, own_ports: frozenset[int]) -> bool:
        return self.waits

    def stacks(self, own_ports: frozenset[int]) -> list[str]:
        return ["its code"]

    async def sleep(self, seconds: float) -> None:
        """What its code does to wait for the clock."""
        self.waits = True
        try:
            await self._machine.clock.sleep(seconds)
        finally:
            self.waits = False

    async def pause(self) -> None:
        """Every step takes a moment of real time."""
        await asyncio.sleep(random.uniform(0.0, self._machine.jitter))

    async def _live(self) -> None:
        await self.pause()
        await self._machine.boot(self)
        found = self._machine.scheduler.find(self.task_id)
        assert found is not None
        pool, slot = found
        while (inputs := await pool.next_inputs(slot, batch=0, linger=0)) is not None:
            await self.pause()
            await self._work(pool, slot, inputs[0])
            await self.pause()
        self.end(0)

    async def _work(self, pool: Pool, slot: Slot, item: Input) -> None:
        code = asyncio.create_task(self._code(item))  # type: ignore[arg-type]
        while not code.done():
            told = asyncio.create_task(slot.changed.wait())
            await asyncio.wait([code, told], return_when=asyncio.FIRST_COMPLETED)
            told.cancel()
            if item.input_id in slot.take_cancellations():
                code.cancel()
                await asyncio.wait([code])
        output = succeeded(item)
        if code.cancelled() or code.exception() is not None:
            output.result.status = output.result.GENERIC_STATUS_FAILURE
        await self.pause()
        pool.work.complete(slot, output)

    async def _code(self, item: Input) -> None:
        self._machine.began.append((item.input_id, self._machine.clock.now()))
        await self._machine.code(self, item)

    def end(self, code: int = 0) -> None:
        if asyncio.current_task() is not self._life:
            self._life.cancel()
        super().end(code)


@dataclass
class VirtualMachine(FakeMachine):
    """As `FakeMachine`, whose containers live by themselves."""

    clock: VirtualClock = field(default_factory=lambda: VirtualClock(start=NOON))  # type: ignore[assignment]
    code: Code = at_once
    boot: Callable[[Worker], Awaitable[None]] = Worker.pause
    jitter: float = 0.002
    """The longest that a step of a container takes, in seconds of real time."""
    began: list[tuple[str, datetime]] = field(default_factory=list)
    """Each attempt at an input, and when it began."""

    async def start(self, spec: ContainerSpec, on_output: Any) -> Worker:
        await asyncio.sleep(random.uniform(0.0, self.jitter))
        worker = Worker(self, spec)
        self.started.append(worker)
        return worker

    @property
    def there(self) -> int:
        """Containers that there are now."""
        return len(list(self.scheduler.slots()))

    async def advance(self, by: str | float, **options: Any) -> None:
        await self.clock.advance_async(by, **options)


@asynccontextmanager
async def virtual_machine(**options: Any) -> AsyncIterator[VirtualMachine]:
    machine = VirtualMachine(**options)
    machine.clock.watch(
        Busy(
            state=machine.state,
            scheduler=machine.scheduler,
            calls=machine.calls,
            moving=Moving(),
            runtime=machine,
            traffic=Traffic(),
            own_ports=frozenset,
        )
    )
    keeping = asyncio.create_task(machine.scheduler.timers.keep())
    try:
        yield machine
    finally:
        keeping.cancel()
        flowing = asyncio.create_task(machine.clock.flow())
        await machine.scheduler.close()
        flowing.cancel()
