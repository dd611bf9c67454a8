"""A container whose requests come from threads: says `ready`, waits for a line, asks, and tells what became of it.

    python -m tests.web.limit_process TABLE LIMIT THREADS ASKS

Tells in JSON when requests were let through (seconds since the epoch) and how many calls that took. Then it waits to be
told to end, having given back nothing.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from infra.aws import Clients
from infra.settings import Limits
from infra.table import Table
from web.caller import Caller
from web.clock import RealClock
from web.errors import RateLimited
from web.shared_limits import SharedLimiter

PATIENCE = 120.0
"""Seconds: the machine may be busy, and the table has to be waited for where nothing may be let through without it."""


class Counted(Table):
    calls = 0

    async def _call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        self.calls += 1
        return await super()._call(operation, **arguments)


async def main(name: str, limit: int, threads: int, asks: int) -> None:
    table = Counted(Clients(), name)
    limiter = SharedLimiter(table, Limits(), RealClock(), patience=PATIENCE)
    caller = Caller(identity="key:1", name="one", requests_per_minute=limit)
    loop, passed = asyncio.get_running_loop(), list[float]()

    async def ask() -> None:
        try:
            await limiter.take(caller)
        except RateLimited:
            return
        passed.append(time.time())

    def in_a_thread() -> None:
        for _ in range(asks):
            asyncio.run_coroutine_threadsafe(ask(), loop).result()

    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    with ThreadPoolExecutor(threads) as pool:
        await asyncio.gather(*(loop.run_in_executor(pool, in_a_thread) for _ in range(threads)))
    print(json.dumps({"passed": passed, "calls": table.calls}), flush=True)
    await asyncio.to_thread(sys.stdin.readline)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], *map(int, sys.argv[2:5])))
