"""One model's engine on this machine: its lives, and what who asks meanwhile is told. The clock is turned by hand."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from functions.boot import Boot
from functions.engines.base import Address, EngineStartError
from functions.local_engine import LocalEngine, backoff
from functions.local_engines import gpus_of, target_of
from infra.settings import Deploy, Model, Models, Scaling, Settings
from tests.web.conftest import until
from tests.web.doubles import HandClock
from web.errors import EngineFailed, ModelBusy
from web.sightings import Seen, Sightings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from infra.settings import EngineKind

WINDOW = 30


class HandProcess:
    """An `Engine` whose every move a test makes: it starts when `boots` is set, and ends when `ends` is."""

    kind: EngineKind = "scripted"
    can_sleep = False

    def __init__(self, address: Address) -> None:
        self.address = address
        self.boots = threading.Event()
        self.ends = threading.Event()
        self.starting = False
        self.stopped = False
        self.error: str | None = None

    def start(self) -> None:
        self.starting = True
        self.boots.wait(10)
        if self.stopped or self.error:
            raise EngineStartError(self.error or "it was stopped")

    def wait(self) -> None:
        self.ends.wait(10)

    def stop(self, *, at_once: bool = False) -> None:
        self.stopped = True
        self.boots.set()
        self.ends.set()

    def healthy(self, timeout: float = 2.0) -> bool:
        return self.starting

    def answers(self, timeout: float) -> bool | None:
        return self.starting

    def sleep(self) -> None: ...

    def wake(self) -> None: ...


class Bench:
    """A LocalEngine, its clock, the requests that it sees, and the processes that it made."""

    def __init__(self, *, min_containers: int = 0) -> None:
        model = Model(id="m", name="m", scaling=Scaling(min_containers=min_containers, scaledown_window=WINDOW))
        self.clock = HandClock()
        self.sightings = Sightings()
        self.made: list[HandProcess] = []
        self.weights = threading.Event()
        self.weights.set()
        self.missing: str | None = None
        self.engine = LocalEngine(model, self.make, seen=self.seen, clock=self.clock)

    @property
    def seen(self) -> Seen:
        return self.sightings.of("m")

    def make(self, address: Address, boot: Boot) -> HandProcess:
        self.weights.wait(10)
        if self.missing:
            raise EngineStartError(self.missing)
        self.made.append(HandProcess(address))
        return self.made[-1]

    async def started(self, number: int = 1) -> HandProcess:
        await until(lambda: len(self.made) == number and self.made[-1].starting)
        return self.made[-1]

    async def ready(self, number: int = 1) -> HandProcess:
        self.engine.demand()
        process = await self.started(number)
        process.boots.set()
        await until(lambda: self.engine.state().state == "ready")
        return process

    async def turned(self, seconds: float) -> None:
        """Advance once somebody sleeps for what this passes."""
        await until(lambda: any(due <= seconds for due in self.clock.pending()))
        self.clock.advance(seconds)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    await made.engine.close()


async def test_nothing_runs_before_it_is_asked_for(bench: Bench) -> None:
    assert bench.engine.state().state == "cold"
    assert not bench.made


async def test_the_first_demand_starts_it_and_nobody_reaches_it_before_it_has_started(bench: Bench) -> None:
    bench.weights.clear()
    address = bench.engine.demand()
    assert (bench.engine.state().state, bench.engine.state().phase) == ("booting", "weights")
    bench.weights.set()
    process = await bench.started()
    await until(lambda: bench.engine.state().phase == "engine")
    bench.clock.advance(3)
    assert bench.engine.state().seconds == 3
    assert bench.engine.demand() == address != process.address
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(address.host, address.port)
    process.boots.set()
    await until(lambda: bench.engine.state().state == "ready")
    assert bench.engine.state().boot == {"ready": 3}
    assert bench.engine.demand() == process.address
    assert len(bench.made) == 1


async def test_one_that_cannot_start_is_told_with_its_reason_until_its_backoff_is_over(bench: Bench) -> None:
    bench.missing = "x.gguf: there is no such file"
    bench.engine.demand()
    await until(lambda: bench.engine.state().state == "failed")
    assert bench.engine.state().reason == "x.gguf: there is no such file"
    with pytest.raises(EngineFailed, match="no such file"):
        bench.engine.demand()
    bench.clock.advance(backoff(1))
    bench.missing = None
    bench.engine.demand()
    (await bench.started()).boots.set()
    await until(lambda: bench.engine.state().state == "ready")


async def test_each_failure_in_a_row_is_waited_for_longer_up_to_a_minute(bench: Bench) -> None:
    assert [backoff(n) for n in range(8)] == [0, 2, 4, 8, 16, 32, 60, 60]
    bench.missing = "broken"
    for number in (1, 2, 3):
        bench.engine.demand()
        await until(lambda: bench.engine.state().state == "failed")
        bench.clock.advance(backoff(number) - 0.5)
        with pytest.raises(EngineFailed):
            bench.engine.demand()
        bench.clock.advance(0.5)


async def test_loading_it_by_hand_does_not_wait_for_the_backoff(bench: Bench) -> None:
    bench.missing = "broken"
    bench.engine.demand()
    await until(lambda: bench.engine.state().state == "failed")
    bench.missing = None
    bench.engine.load()
    await bench.started()


async def test_a_crash_is_followed_by_a_new_life_at_the_next_demand(bench: Bench) -> None:
    process = await bench.ready()
    process.ends.set()
    await until(lambda: bench.engine.state().state == "cold")
    assert bench.engine.demand() != process.address
    assert (await bench.ready(2)).address == bench.engine.demand()


async def test_crashes_in_a_row_are_not_followed_at_once_and_demand_waits_without_an_error(bench: Bench) -> None:
    for number in (1, 2):
        process = await bench.ready(number)
        process.ends.set()
        await until(lambda: bench.engine.state().state == "cold")
    bench.engine.demand()
    assert bench.engine.state().state == "cold"
    bench.clock.advance(backoff(1))
    bench.engine.demand()
    await bench.started(3)


async def test_an_idle_one_is_stopped_after_its_window_and_a_busy_one_is_not(bench: Bench) -> None:
    process = await bench.ready()
    await until(lambda: WINDOW in bench.clock.pending())
    visit = bench.sightings.begin("m", bench.clock.monotonic())
    for long in (WINDOW, 10 * WINDOW):
        bench.clock.advance(long)
        await until(lambda: 1.0 in bench.clock.pending())
    visit.ended(None, bench.clock.monotonic())
    bench.clock.advance(1.0)
    await until(lambda: WINDOW - 1.0 in bench.clock.pending())
    assert not process.stopped
    bench.clock.advance(WINDOW - 1.0)
    await until(lambda: process.stopped)
    await until(lambda: bench.engine.state().state == "cold")


async def test_one_with_a_minimum_of_containers_is_never_idle_and_comes_back_by_itself() -> None:
    bench = Bench(min_containers=1)
    assert bench.engine.kept
    process = await bench.ready()
    await bench.turned(WINDOW)
    await bench.turned(10 * WINDOW)
    assert not process.stopped
    process.ends.set()
    await until(lambda: 0.0 in bench.clock.pending())
    bench.clock.advance(0.0)
    await bench.started(2)
    await bench.engine.close()


async def test_a_demand_while_it_is_being_stopped_starts_the_next_one_elsewhere_once_it_is_gone(bench: Bench) -> None:
    process = await bench.ready()
    process.stop = lambda *, at_once=False: None  # type: ignore[method-assign]
    unloading = asyncio.create_task(bench.engine.unload())
    await until(lambda: bench.engine.state().state == "cold")
    assert bench.engine.demand() != process.address
    assert len(bench.made) == 1
    process.ends.set()
    await unloading
    await bench.started(2)


async def test_a_busy_one_is_unloaded_by_force_only(bench: Bench) -> None:
    process = await bench.ready()
    visit = bench.sightings.begin("m", 0.0)
    with pytest.raises(ModelBusy):
        await bench.engine.unload()
    assert not process.stopped
    await bench.engine.unload(force=True)
    assert process.stopped
    visit.ended(None, 0.0)


async def test_unloading_it_while_it_boots_ends_the_boot_and_is_no_failure(bench: Bench) -> None:
    bench.engine.load()
    process = await bench.started()
    await bench.engine.unload()
    assert process.stopped
    assert bench.engine.state().state == "cold"
    bench.engine.demand()
    await bench.started(2)


async def test_unloading_does_not_wait_for_a_download_and_what_was_downloaded_is_not_started(bench: Bench) -> None:
    bench.weights.clear()
    bench.engine.demand()
    async with asyncio.timeout(30):
        await bench.engine.unload()
    bench.weights.set()
    await until(lambda: bench.made)
    bench.engine.demand()
    await bench.started(2)
    assert not bench.made[0].starting


async def test_after_closing_nothing_starts_any_more(bench: Bench) -> None:
    process = await bench.ready()
    await bench.engine.close()
    assert process.stopped
    bench.engine.demand()
    assert len(bench.made) == 1


def test_the_cloud_s_engine_serves_here_where_it_is_installed_and_else_the_local_one() -> None:
    models = Models(available_models=(Model(id="g", name="g"), Model(id="c", name="c", device="cpu")))
    cloud = Settings(models=models, deploy=Deploy(target="modal"))
    gpu, cpu = models.available_models
    assert target_of(gpu, cloud, installed=lambda _: True) == "modal"
    assert target_of(gpu, cloud, installed=lambda package: package != "sglang") == "local"
    assert target_of(cpu, cloud, installed=lambda package: package != "sglang") == "modal"
    local = cloud.model_copy(update={"deploy": Deploy(target="local")})
    assert target_of(gpu, local, installed=lambda _: False) == "local"


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        ("0,1,2", {"one": "0", "two": "1,2", "none": "0,1,2"}),
        ("0, 3 ,5,7", {"one": "0", "two": "3,5", "none": "0, 3 ,5,7"}),
        ("0,1", {"one": "0,1", "two": "0,1", "none": "0,1"}),
        (None, {"one": None, "two": None, "none": None}),
    ],
)
def test_gpus_are_shared_out_where_there_are_enough(visible: str | None, expected: dict[str, str | None]) -> None:
    models = [Model(id=name, name=name) for name in ("one", "two", "none")]
    assert gpus_of(models, visible, counts={"one": 1, "two": 2}) == expected
