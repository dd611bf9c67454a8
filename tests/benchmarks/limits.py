"""What limits across containers cost and waste: simulated, so that hours take seconds and no machine disturbs.

    python -m tests.benchmarks.limits [--limits 60,600,6000] [--containers 1,4,8] [--loads 0.5,0.9,3] [--minutes 10]
    python -m tests.benchmarks.limits --cpu

Requests of one key come at random times to containers at random; the table answers in 8 ms. Of a limit and a number of
containers it tells, for each load (of the limit), how many requests passed of those that one container would have let
pass, and the calls for each request that came. Two minutes before are not counted. `--cpu`: microseconds of a request
under a lease, beside the limiter of one process.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from infra.settings import Limits
from tests.web.doubles import HandClock
from tests.web.lease_kit import TableInMemory
from web.caller import Caller
from web.clock import RealClock
from web.errors import RateLimited
from web.limits import MemoryLimiter
from web.shared_limits import SharedLimiter

if TYPE_CHECKING:
    from infra.table import Item, Key, Table
    from web.limits import Limiter

LATENCY = 0.008
WARMING = 2
"""Minutes."""


class SlowTable(TableInMemory):
    def __init__(self, clock: HandClock) -> None:
        super().__init__()
        self._clock = clock

    async def get(self, key: Key) -> Item | None:
        await self._clock.sleep(LATENCY)
        return await super().get(key)

    async def update(self, key: Key, **change: Any) -> Item:
        await self._clock.sleep(LATENCY / 2)
        try:
            return await super().update(key, **change)
        finally:
            await self._clock.sleep(LATENCY / 2)


@dataclass
class Told:
    asked: int
    passed: int
    calls: int
    most: int
    """In any minute."""


async def simulated(limiters: list[Limiter], clock: HandClock, table: TableInMemory, *, limit: int, load: float,
                    minutes: int) -> Told:  # fmt: skip
    caller = Caller(identity="key:1", name="one", requests_per_minute=limit)
    chance, passed, asked, calls = random.Random(1), list[float](), 0, 0
    began, under_way = clock.monotonic(), set[asyncio.Task[None]]()
    counted_from, over = began + WARMING * 60, began + (WARMING + minutes) * 60

    async def ask(limiter: Limiter) -> None:
        try:
            await limiter.take(caller)
        except RateLimited:
            return
        passed.append(clock.monotonic())

    next_at = began
    while (now := clock.monotonic()) < over:
        if now < counted_from:
            asked, calls = 0, table.calls["get"] + table.calls["update"]
        if now >= next_at:
            asked += 1
            task = asyncio.create_task(ask(chance.choice(limiters)))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            next_at = now + chance.expovariate(limit * load / 60)
        for _ in range(6):
            await asyncio.sleep(0)
        due = min([next_at - now, *clock.pending()[:1]])
        clock.advance(max(due, 0.0))
    minute, most = deque[float](), 0
    for moment in passed:
        minute.append(moment)
        while minute[0] <= moment - 60:
            minute.popleft()
        most = max(most, len(minute))
    calls = table.calls["get"] + table.calls["update"] - calls
    return Told(asked, sum(moment >= counted_from for moment in passed), calls, most)


async def compared(limit: int, containers: int, load: float, minutes: int) -> str:
    clock = HandClock()
    alone = await simulated([MemoryLimiter(Limits(), clock)], clock, TableInMemory(), limit=limit, load=load,
                            minutes=minutes)  # fmt: skip
    clock = HandClock()
    table = SlowTable(clock)
    limiters = [SharedLimiter(cast("Table", table), Limits(), clock, patience=60.0) for _ in range(containers)]
    told = await simulated([*limiters], clock, table, limit=limit, load=load, minutes=minutes)
    assert told.most <= limit
    return (
        f"{limit:6} {containers:10} {load:6.0%} {told.passed / alone.passed:12.1%} {told.calls / told.asked:12.4f} "
        f"{told.calls / max(1, told.passed):13.4f} {told.most:12}"
    )


async def cpu(requests: int = 100_000) -> str:
    """Each as an edge asks: take, and tell the standing."""
    caller = Caller(identity="key:1", name="one", requests_per_minute=10**9)
    lines = []
    for name in ("memory", "shared"):
        table = cast("Table", TableInMemory())
        limiter: Limiter = MemoryLimiter(Limits(), RealClock())
        if name == "shared":
            limiter = SharedLimiter(table, Limits(), RealClock())
        await limiter.take(caller)
        spent = []
        for _ in range(5):
            began = time.process_time()
            for _ in range(requests):
                await limiter.take(caller)
                limiter.standing(caller)
            spent.append((time.process_time() - began) / requests * 1e6)
        await limiter.close()
        lines.append(f"{name:8} {min(spent):6.2f} µs for each request")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.limits")
    parser.add_argument("--limits", default="60,600,6000")
    parser.add_argument("--containers", default="1,4,8")
    parser.add_argument("--loads", default="0.5,0.9,3")
    parser.add_argument("--minutes", type=int, default=10)
    parser.add_argument("--cpu", action="store_true")
    options = parser.parse_args()
    if options.cpu:
        print(asyncio.run(cpu()))
        return
    print(" limit containers   load passed/alone calls/request calls/passed most a minute")
    for limit in map(int, options.limits.split(",")):
        for containers in map(int, options.containers.split(",")):
            for load in map(float, options.loads.split(",")):
                print(asyncio.run(compared(limit, containers, load, options.minutes)), flush=True)


if __name__ == "__main__":
    main()
