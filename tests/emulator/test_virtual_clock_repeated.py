"""The same, a thousand times: whoever does not wait for one of the threads, loops or processes is found out."""

from __future__ import annotations

import os
import random
import statistics
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import modal
import pytest

from emulator.emulator import Emulator
from emulator.virtual_clock import VirtualClock
from tests.emulator import clock_app
from tests.emulator.test_virtual_clock_scheduler import (
    test_a_function_scales_to_zero_after_its_window_and_not_before as scales_to_zero,
)
from tests.emulator.test_virtual_clock_scheduler import (
    test_an_input_times_out_after_its_time_and_not_before as times_out,
)
from tests.emulator.test_virtual_clock_scheduler import test_retries_come_after_their_backoff as retries
from tests.parity.kit import client_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DAYS = 20
TIMES = 490
"""Of each of the others: with the days, a thousand."""


@contextmanager
def disturbed() -> Iterator[None]:
    """A thread that keeps the interpreter busy now and then, and a switch between threads at every turn."""
    over = threading.Event()

    def disturb() -> None:
        while not over.wait(random.uniform(0.0, 0.01)):
            until = time.perf_counter() + random.uniform(0.0, 0.001)
            while time.perf_counter() < until:
                pass

    before = sys.getswitchinterval()
    sys.setswitchinterval(0.001)
    thread = threading.Thread(target=disturb, daemon=True)
    thread.start()
    try:
        yield
    finally:
        sys.setswitchinterval(before)
        over.set()
        thread.join()


def day(emulator: Emulator, clock: VirtualClock) -> Any:
    clock_app.ran.clear()
    clock.advance("1d")
    return [moment % 86400 / 3600 for moment in clock_app.ran], len(emulator.containers())


def to_zero(emulator: Emulator, clock: VirtualClock) -> Any:
    found = [clock_app.add.remote(1, 2)]
    for by in ("4m59s", "1s"):
        clock.advance(by)
        found.append(len(emulator.containers(function="add")))
    return found


def timed_out(emulator: Emulator, clock: VirtualClock) -> Any:
    call = random.choice([clock_app.sleeps, clock_app.sleeps_async]).spawn(3600)
    clock.advance("9m59s")
    kept = emulator.core.calls.get(call.object_id)
    assert kept is not None
    found = [kept.unfinished]
    clock.advance("1s")
    found.append(kept.unfinished)
    with pytest.raises(modal.exception.FunctionTimeoutError):
        call.get()
    return found


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_thousand_times_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    clock = VirtualClock(start=datetime(2026, 3, 1, tzinfo=UTC))
    runs: list[tuple[Callable[[Emulator, VirtualClock], Any], int]] = [
        (day, DAYS),
        (to_zero, TIMES),
        (timed_out, TIMES),
    ]
    outcomes: dict[str, Counter[str]] = {}
    took: dict[str, list[float]] = {}
    with Emulator(containers="thread", clock=clock) as emulator, disturbed():
        client = client_of({**os.environ, **emulator.environment})
        clock_app.app.deploy(client=client)
        clock.advance("30m")
        for run, times in runs:
            for _ in range(times):
                begun = time.perf_counter()
                outcome = str(run(emulator, clock))
                took.setdefault(run.__name__, []).append(time.perf_counter() - begun)
                outcomes.setdefault(run.__name__, Counter())[outcome] += 1
            clock.advance("1h")
        client.close()
    with capsys.disabled():
        for name, durations in took.items():
            quarter = statistics.quantiles(durations, n=20)
            print(f"\n{name}: {len(durations)} times, {quarter[9] * 1000:.1f} ms, 95%: {quarter[18] * 1000:.1f} ms")
    assert all(len(found) == 1 for found in outcomes.values()), outcomes
    assert sum(found.total() for found in outcomes.values()) == 1000
    assert set(outcomes["day"]) == {str(([*map(float, range(1, 24)), 0.0], 0))}
    assert set(outcomes["to_zero"]) == {"[3, 1, 0]"}
    assert set(outcomes["timed_out"]) == {"[1, 0]"}


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_containers_that_take_a_random_time_for_every_step_change_nothing() -> None:
    with disturbed():
        for _ in range(100):
            for run in (scales_to_zero, times_out, retries):
                await run()
