"""What a test of a Modal app costs: the fixture, a deploy, a first and a warm call, a day of virtual time. Medians.

    python -m tests.benchmarks.fixtures

Measured where a test feels it: in a pytest of its own, by hooks around the fixture's set-up and the test's end. CPU is
all of the test's process, emulator, containers and client together: where nothing else runs, time is about that.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

    from emulator.testing.apps import Deploy
    from emulator.virtual_clock import VirtualClock

TESTS = 40
CALLS = 100
APP = """
import modal

app = modal.App("small")

@app.function()
def double(x):
    return 2 * x

@app.function(schedule=modal.Cron("0 * * * *"))
def hourly():
    pass
"""
SUITE = """
import pytest
import small

@pytest.mark.parametrize("n", range({tests}))
def test_calls(deploy, measure, n):
    measure.calls(deploy, small)

@pytest.mark.parametrize("n", range({days}))
def test_days(deploy, clock, measure, n):
    measure.day(deploy, clock, small)
"""


Moment = tuple[float, float]


def now() -> Moment:
    return time.perf_counter(), time.process_time()


class Measure:
    """A plugin of the measured pytest, and the fixture `measure` of its tests. (time, CPU) in seconds, by figure."""

    def __init__(self, calls: int) -> None:
        self.seconds: dict[str, list[Moment]] = {}
        self._calls = calls

    def _note(self, name: str, since: Moment) -> None:
        time_now, cpu_now = now()
        self.seconds.setdefault(name, []).append((time_now - since[0], cpu_now - since[1]))

    @pytest.fixture
    def measure(self) -> Measure:
        return self

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Generator[None, Any, Any]:
        since = now()
        result = yield
        if fixturedef.argname == "emulator":
            self._note("`emulator` fixture, set-up", since)
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self) -> Generator[None, Any, Any]:
        since = now()
        result = yield
        self._note("its end, with a container", since)
        return result

    def calls(self, deploy: Deploy, small: Any) -> None:
        since = now()
        deploy(small)
        self._note("deploy of a small app", since)
        since = now()
        small.double.remote(1)
        self._note("first call", since)
        for number in range(self._calls):
            since = now()
            assert small.double.remote(number) == 2 * number
            self._note("warm call", since)

    def day(self, deploy: Deploy, clock: VirtualClock, small: Any) -> None:
        deploy(small)
        since = now()
        clock.advance("24h")
        self._note("a day with 24 runs of a Cron", since)


def figures(*, scale: float = 1.0) -> dict[str, Moment]:
    """Milliseconds, of time and of CPU, by figure; without the first test, which imports the client."""
    tests = max(2, int(TESTS * scale))
    measure = Measure(max(2, int(CALLS * scale)))
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "small.py").write_text(APP)
        Path(folder, "test_small.py").write_text(SUITE.format(tests=tests, days=max(2, tests // 8)))
        arguments = [
            "-q",
            "--no-header",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:asyncio",
            "--rootdir",
            folder,
            "-c",
            "/dev/null",
        ]
        plugins = [] if "emulator.pytest_plugin" in sys.modules else ["-p", "emulator.pytest_plugin"]
        code = pytest.main([*arguments, *plugins, folder], plugins=[measure])
    if code:
        raise RuntimeError(f"the measured tests ended with {code!r}")
    return {name: _medians(values[1:]) for name, values in measure.seconds.items()}


def _medians(values: list[Moment]) -> Moment:
    return statistics.median(value[0] for value in values) * 1000, statistics.median(v[1] for v in values) * 1000


def main() -> None:
    found = figures()
    print("| | ms | CPU, ms |\n|---|---|---|")
    for name, (elapsed, cpu) in found.items():
        print(f"| {name} | {elapsed:.1f} | {cpu:.1f} |")


if __name__ == "__main__":
    main()
