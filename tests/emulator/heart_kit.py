"""What the tests of the emulator's heart share: a clock that is turned, containers that are not there, the real CLI."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from modal_proto import api_pb2

from emulator.clock import LOOK_AGAIN
from emulator.containers.base import ContainerExit, ContainerSpec, ContainerStartError
from emulator.scheduler.calls import Calls
from emulator.scheduler.limiter import StartLimiter
from emulator.scheduler.scheduler import Scheduler
from emulator.scheduler.services import Services
from emulator.scheduler.slot import Slot
from emulator.signals import Signal
from emulator.state import App, FunctionRecord, State
from tests.modal_cli import PLAIN, cli_server, without_modal

if TYPE_CHECKING:
    import socket
    import subprocess
    from collections.abc import AsyncIterator, Callable

    from emulator.emulator import Emulator
    from emulator.scheduler.calls import Call, Input
    from emulator.scheduler.pool import Pool


class TurnedClock:
    """A `Clock` that stands still until a test turns it."""

    def __init__(self) -> None:
        self._now = 1000.0
        self._order = itertools.count()
        self._due: list[tuple[float, int, Callable[[], None]]] = []

    def time(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.get_running_loop().create_future()
        self._at(seconds, lambda: woken.done() or woken.set_result(None))
        await woken

    def timeout(self, seconds: float | None) -> asyncio.Timeout:
        loop = asyncio.get_running_loop()
        timeout = asyncio.timeout(None)
        if seconds is not None and seconds <= 0:
            return asyncio.timeout(0)
        if seconds is not None:
            self._at(seconds, lambda: _expire(timeout, loop))
        return timeout

    def until(self, moment: float | None) -> asyncio.Timeout:
        return self.timeout(None if moment is None else min(LOOK_AGAIN, moment - self.time()))

    @property
    def outside(self) -> TurnedClock:
        return self

    def _at(self, seconds: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._due, (self._now + seconds, next(self._order), act))

    async def turn(self, seconds: float) -> None:
        """Let that much time pass, and everything happen that it brings."""
        ends = self._now + seconds
        await settle()
        while self._due and self._due[0][0] <= ends:
            self._now, _, act = heapq.heappop(self._due)
            act()
            await settle()
        self._now = ends
        await settle()


def _expire(timeout: asyncio.Timeout, loop: asyncio.AbstractEventLoop) -> None:
    try:
        timeout.reschedule(loop.time())
    except RuntimeError:
        return  # left already, or never entered


async def settle() -> None:
    """Let everything run that can run without time passing."""
    for _ in range(50):
        await asyncio.sleep(0)


class FakeContainer:
    """A container without a process: the test says when it ends."""

    def __init__(self, spec: ContainerSpec) -> None:
        self.task_id = spec.task_id
        self.pid = 1
        self.terminated = False
        self.interrupted = False
        self.killed = False
        self.accepts = True
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def wait(self) -> ContainerExit:
        return ContainerExit(await asyncio.shield(self._ended))

    def end(self, code: int = 0) -> None:
        if not self._ended.done():
            self._ended.set_result(code)

    def terminate(self) -> None:
        self.terminated = True
        self.end(0)

    def read_output(self) -> None:
        """It writes nothing."""

    def interrupt(self) -> None:
        self.interrupted = True

    def kill(self) -> None:
        self.killed = True
        self.end(-9)

    async def dial(self, port: int) -> socket.socket:
        if not self.accepts:
            raise ConnectionRefusedError
        import socket

        return socket.socket()


@dataclass
class FakeMachine:
    """A runtime, a launcher and a scheduler over them, for pools under a turned clock."""

    clock: TurnedClock = field(default_factory=TurnedClock)
    max_starting: int = 10
    started: list[FakeContainer] = field(default_factory=list)
    refuse: str = ""
    gate: asyncio.Event | None = None
    """While it is not set, no container comes to be."""
    released: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.state = State()
        self.calls = Calls(self.clock)
        self.said: list[str] = []
        self.scheduler = Scheduler(
            Services(
                clock=self.clock,
                calls=self.calls,
                limiter=StartLimiter(self.max_starting),
                launcher=self,
                runtime=self,
                on_output=lambda *_: None,
                say=self.said.append,
                changed=Signal(),
                machine_limit=16,
            ),
        )
        self.app = App("ap-1", "app", "main", api_pb2.APP_STATE_DEPLOYED, 0.0, 0.0, name="app")
        self.state.apps[self.app.app_id] = self.app

    async def prepare(self, function: FunctionRecord, task_id: str) -> ContainerSpec:
        return ContainerSpec(task_id, b"", Path("/nonexistent"), {}, "im-1")

    async def release(self, task_id: str) -> None:
        self.released.append(task_id)

    async def start(self, spec: ContainerSpec, on_output: Any) -> FakeContainer:
        if self.gate is not None:
            await self.gate.wait()
        if self.refuse:
            raise ContainerStartError(self.refuse)
        container = FakeContainer(spec)
        self.started.append(container)
        return container

    async def close(self) -> None:
        for container in self.started:
            container.kill()

    def deploy(self, **definition: Any) -> Pool:
        """Publish (again) a function named `f` and return its pool."""
        record = self.state.functions.setdefault("fu-1", FunctionRecord("fu-1", "ap-1", "f"))
        record.definition = api_pb2.Function(function_name="f", **definition)
        record.version += 1
        self.scheduler.published(record)
        pool = self.scheduler.pool("fu-1")
        assert pool is not None
        return pool

    def call(self) -> tuple[Call, Input]:
        call = self.calls.create("fu-1")
        return call, self.scheduler.submit(call, api_pb2.FunctionInput(), 0)


@pytest.fixture
async def machine() -> AsyncIterator[FakeMachine]:
    machine = FakeMachine()
    yield machine
    closing = asyncio.create_task(machine.scheduler.close())
    await machine.clock.turn(60)
    await closing


async def fetch(pool: Pool, container: FakeContainer) -> asyncio.Task[list[Input] | None]:
    """What a container's runtime does: ask for the next input."""
    task = asyncio.create_task(pool.next_inputs(slot_of(pool, container), batch=0, linger=0))
    await settle()
    return task


async def taken(pool: Pool, container: FakeContainer) -> Input:
    inputs = (await fetch(pool, container)).result()
    assert inputs is not None
    return inputs[0]


def slot_of(pool: Pool, container: FakeContainer) -> Slot:
    return pool.slots[container.task_id]


def succeeded(item: Input) -> api_pb2.FunctionPutOutputsItem:
    return _outcome(item, api_pb2.GenericResult.GENERIC_STATUS_SUCCESS)


def failed(item: Input) -> api_pb2.FunctionPutOutputsItem:
    return _outcome(item, api_pb2.GenericResult.GENERIC_STATUS_FAILURE)


def _outcome(item: Input, status: api_pb2.GenericResult.GenericStatus.ValueType) -> api_pb2.FunctionPutOutputsItem:
    return api_pb2.FunctionPutOutputsItem(
        input_id=item.input_id, retry_count=item.retry_count, result=api_pb2.GenericResult(status=status)
    )


def status(call: Call) -> str:
    """How a call with one input ended, by the name of its status; empty while it has not."""
    if 0 not in call.outputs:
        return ""
    name = api_pb2.GenericResult.GenericStatus.Name(call.outputs[0].result.status)
    return name.removeprefix("GENERIC_STATUS_")


def write_app(folder: Path, source: str, name: str = "app.py") -> Path:
    path = folder / name
    path.write_text(textwrap.dedent(source))
    return path


def modal(
    emulator: Emulator, *arguments: str, cwd: Path, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the real, unmodified `modal` CLI against an emulator."""
    environment = {**without_modal(), **emulator.environment, **PLAIN, **(env or {})}
    return cli_server().run(*arguments, cwd=cwd, env=environment)
