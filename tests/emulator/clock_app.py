"""An app whose code waits: its tests run it in containers that are threads, under a virtual clock."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import modal

if TYPE_CHECKING:
    from collections.abc import Iterator

app = modal.App("clock-app")
ran: list[float] = []
"""When `hourly` ran."""


@app.function(schedule=modal.Cron("0 * * * *"), scaledown_window=300)
def hourly() -> None:
    ran.append(time.time())


@app.function(scaledown_window=300)
def add(one: int, other: int) -> int:
    return one + other


@app.function(timeout=600)
def sleeps(seconds: float) -> float:
    begun = time.monotonic()
    time.sleep(seconds)
    return time.monotonic() - begun


@app.function(timeout=600)
async def sleeps_async(seconds: float) -> float:
    begun = time.time()
    await asyncio.sleep(seconds)
    return time.time() - begun


@app.function(timeout=7200)
def waits(how: str) -> str:
    """Ways to wait for an hour."""
    hour = 3600.0
    begun, counted = time.time(), time.perf_counter()
    if how == "event":
        threading.Event().wait(hour)
    elif how == "queue":
        with contextlib.suppress(queue.Empty):
            queue.Queue[int]().get(timeout=hour)
    elif how == "own loop":
        asyncio.run(asyncio.wait_for(asyncio.sleep(hour), 2 * hour))
    elif how == "pool":
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(time.sleep, [hour / 2, hour / 2, hour / 2]))
    elif how == "call":
        sleeps_long.remote(hour)
    elif how == "generator":
        assert list(items.remote_gen()) == [0, 1]
    elif how == "helper":
        # Not at the moment at which the sleep below ends: either could be first then.
        helper = threading.Timer(hour - 600, lambda: None)
        helper.start()
        while helper.is_alive():
            time.sleep(1800)
    assert time.perf_counter() - counted > time.time() - begun, "it counts what is real, too"
    return f"{time.time() - begun:.2f}"


@app.function(timeout=7200)
async def sleeps_long(seconds: float) -> None:
    await asyncio.sleep(seconds)


@app.function(timeout=7200)
def items() -> Iterator[int]:
    for number in range(2):
        time.sleep(1800)
        yield number


@app.function(timeout=7200)
async def waits_async(how: str) -> str:
    begun = time.time()
    if how == "thread":
        await asyncio.to_thread(time.sleep, 3600)
    elif how == "timeout":
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(3600):
                await asyncio.Event().wait()
    elif how == "call":
        await sleeps_long.remote.aio(3600)
    elif how == "many":
        await asyncio.gather(*(asyncio.sleep(seconds) for seconds in (60, 3600, 600)))
    return f"{time.time() - begun:.2f}"


@app.function(timeout=7200)
@modal.concurrent(max_inputs=10)
def at_once(seconds: float) -> float:
    time.sleep(seconds)
    return time.time()


gate = threading.Lock()


@app.function()
def computes() -> str:
    """Waits for something that is no matter of time."""
    with gate:
        return datetime.now(UTC).isoformat()


tries: list[float] = []


@app.function(retries=modal.Retries(max_retries=3, initial_delay=10.0, backoff_coefficient=2.0))
def fails() -> None:
    tries.append(time.time())
    raise ValueError("always")


@app.cls(startup_timeout=60)
class Boots:
    @modal.enter()
    def enter(self) -> None:
        time.sleep(3600)

    @modal.method()
    def use(self) -> None: ...


@app.function(timeout=600)
@modal.fastapi_endpoint()
async def answers(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds
