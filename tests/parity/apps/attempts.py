"""Inputs that fail, take too long, are cancelled, or take their container with them."""

import asyncio
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import modal

app = modal.App("attempts")
seen = modal.Volume.from_name("parity-attempts", create_if_missing=True)
started: list[float] = []
told: list[object] = []


@app.function(retries=2, max_containers=1)
def third_time(fail_first: int) -> list[float]:
    """When each attempt has begun, once that many have failed. (One container, which outlives its inputs' failures.)"""
    started.append(time.time())
    if len(started) <= fail_first:
        raise RuntimeError(f"attempt {len(started)}")
    return started


@app.function(retries=3, max_containers=1)
def every_other(x: int) -> int:
    """Fails with what it has not seen yet."""
    if x not in told:
        told.append(x)
        raise RuntimeError(f"{x} is new")
    return 10 * x


@app.function(retries=modal.Retries(max_retries=1, initial_delay=2.0, backoff_coefficient=1.0), max_containers=1)
def slower(_: str) -> list[float]:
    started.append(time.time())
    if len(started) == 1:
        raise RuntimeError("the first attempt")
    return started


@app.function(retries=1, timeout=1, max_containers=1)
def slow_at_first() -> int:
    started.append(time.time())
    if len(started) == 1:
        time.sleep(30)
    return len(started)


@app.function(timeout=1, max_containers=1)
def sleep(seconds: float) -> str:
    """Which container has slept that long."""
    try:
        time.sleep(seconds)
    except BaseException as error:
        told.append(type(error).__name__)
        raise
    return os.environ["MODAL_TASK_ID"]


@app.function(timeout=1, max_containers=1)
def stubborn(seconds: float) -> str:
    """The same, and heeds nobody."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        try:
            time.sleep(0.1)
        except BaseException:
            continue
    return os.environ["MODAL_TASK_ID"]


@app.function(timeout=2, max_containers=1)
@modal.concurrent(max_inputs=10)
async def together(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return os.environ["MODAL_TASK_ID"]


@app.function(max_containers=1)
def cancelled(ask: bool) -> list[object] | str:
    """What the code of inputs was told, or (not asked) a minute's sleep."""
    if ask:
        return [*told, os.environ["MODAL_TASK_ID"]]
    told.append(os.environ["MODAL_TASK_ID"])
    print("it has begun", flush=True)
    try:
        time.sleep(60)
    except BaseException as error:
        told.append(f"{type(error).__module__}.{type(error).__name__}")
        raise
    return "slept"


@app.function(max_containers=1)
async def cancelled_async(ask: bool) -> list[object] | str:
    if ask:
        return [*told, os.environ["MODAL_TASK_ID"]]
    told.append(os.environ["MODAL_TASK_ID"])
    print("it has begun", flush=True)
    try:
        await asyncio.sleep(60)
    except BaseException as error:
        told.append(f"{type(error).__module__}.{type(error).__name__}")
        raise
    return "slept"


@app.function(single_use_containers=True, max_containers=3)
def once() -> str:
    return os.environ["MODAL_TASK_ID"]


@app.function(max_containers=2)
def ends_with(code: int) -> str:
    """Ends its container with that exit code, without a word."""
    os._exit(code)


@app.function(volumes={"/seen": seen}, max_containers=1)
def crashes_first(key: str) -> str:
    """Takes its container with it the first time that it is called with a key."""
    seen.reload()
    mark = Path("/seen", key)
    if not mark.exists():
        mark.touch()
        seen.commit()
        os._exit(3)
    return os.environ["MODAL_TASK_ID"]


@app.function(volumes={"/seen": seen}, max_containers=2)
def crashes_first_at_two(key: str, x: int) -> int:
    mark = Path("/seen", key)
    if x == 2:
        seen.reload()
        if not mark.exists():
            mark.touch()
            seen.commit()
            os._exit(3)
    return 10 * x


@app.function(volumes={"/seen": seen}, max_containers=1)
def counts_and_crashes(key: str, to: int) -> Iterator[int]:
    """Takes its container with it in the middle, the first time that it is called with a key."""
    mark = Path("/seen", key)
    seen.reload()
    for number in range(to):
        yield number
        if number == to // 2 and not mark.exists():
            mark.touch()
            seen.commit()
            time.sleep(0.3)  # so that what was yielded has left
            os._exit(3)


@app.function()
def leaves(code: int) -> None:
    sys.exit(code)
