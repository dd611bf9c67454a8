"""Limits across real processes, which ask all at once, and one of which is killed."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from typing import IO, TYPE_CHECKING, Any

import pytest

from infra.settings import Limits
from tests.service.deployment import ROOT
from tests.web.limit_process import PATIENCE
from tests.web.test_shared_limits import allowed, caller
from web.clock import RealClock
from web.leases import COUNTED_SECONDS, LEASE_SECONDS
from web.shared_limits import SharedLimiter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from emulator.aws import Aws
    from tests.aws_kit import StateOfTest

pytestmark = pytest.mark.slow


class Later(RealClock):
    """The real time and some more."""

    ahead = 0.0

    def time(self) -> float:
        return time.time() + self.ahead

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead


@contextlib.contextmanager
def processes(aws: Aws, state: StateOfTest, count: int, *, limit: int, threads: int, asks: int) -> Iterator[list[Any]]:
    """That are ready to begin."""
    told = [state.name, *map(str, (limit, threads, asks))]
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.web.limit_process", *told],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
            env=os.environ | aws.environment(),
        )
        for _ in range(count)
    ]  # fmt: skip
    try:
        for one in started:
            assert said(one.stdout) == "ready"
        yield started
    finally:
        for one in started:
            one.kill()
            one.wait()
            for stream in (one.stdin, one.stdout):
                assert stream is not None
                stream.close()


def said(stream: IO[str] | None) -> str:
    assert stream is not None
    return stream.readline().strip()


def begin(process: Any) -> None:
    process.stdin.write("\n")
    process.stdin.flush()


def test_eight_processes_of_64_threads_let_through_no_more_than_the_limit(
    aws_server: Aws, aws_state: StateOfTest
) -> None:
    limit, threads, asks = 1500, 64, 16
    with processes(aws_server, aws_state, 8, limit=limit, threads=threads, asks=asks) as there:
        for one in there:
            begin(one)
        told = [json.loads(said(one.stdout)) for one in there]
    passed = sorted(moment for one in told for moment in one["passed"])
    most = max(sum(first <= moment < first + 59.0 for moment in passed[index:]) for index, first in enumerate(passed))
    calls = sum(one["calls"] for one in told)
    print(f"{len(passed)} passed, {most} in a minute, {calls} calls for {8 * threads * asks} requests")
    assert most <= limit
    assert len(passed) >= limit * 0.8, "nearly all of it can be used"
    assert calls < 0.1 * 8 * threads * asks


async def test_what_a_killed_process_had_leased_is_there_again_when_its_lease_has_ended(
    aws_server: Aws, aws_state: StateOfTest
) -> None:
    clock = Later()
    heir = SharedLimiter(aws_state.table, Limits(), clock, patience=PATIENCE)
    with processes(aws_server, aws_state, 1, limit=100, threads=4, asks=10) as (victim,):
        begin(victim)
        assert len(json.loads(said(victim.stdout))["passed"]) == 40
        victim.kill()
        victim.wait()
    assert 0 < await allowed(heir, caller(100), 100) <= 60
    clock.ahead = LEASE_SECONDS + COUNTED_SECONDS
    assert await allowed(heir, caller(100), 200) == 100
    await heir.close()
