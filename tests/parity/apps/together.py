"""Inputs that share a container: side by side, or in batches."""

import asyncio
import os
import threading
import time

import modal

app = modal.App("together")
met = threading.Barrier(3)
full = asyncio.Event()
most = 0
now = 0


@app.function(max_containers=1)
@modal.concurrent(max_inputs=3)
def in_threads(_: int) -> tuple[str, int]:
    """Returns once three of it run at the same time: which container, which thread."""
    met.wait(timeout=20)
    return os.environ["MODAL_TASK_ID"], threading.get_ident()


@app.function(max_containers=1)
@modal.concurrent(max_inputs=4)
async def in_tasks(_: int) -> tuple[str, int, int]:
    """Which container and thread, and how many of it have run at the same time there so far: four at least."""
    global most, now
    now += 1
    most = max(most, now)
    if now == 4:
        full.set()
    await asyncio.wait_for(full.wait(), 20)
    await asyncio.sleep(0.1)  # for more, if any come
    now -= 1
    return os.environ["MODAL_TASK_ID"], threading.get_ident(), most


@app.function(max_containers=1)
@modal.concurrent(max_inputs=3)
def interrupted(wait: float) -> str:
    time.sleep(wait)
    return os.environ["MODAL_TASK_ID"]


@app.function(max_containers=1)
@modal.concurrent(max_inputs=8)
async def cancellable(wait: float) -> str:
    await asyncio.sleep(wait)
    return os.environ["MODAL_TASK_ID"]


@app.function(max_containers=4)
@modal.concurrent(max_inputs=6, target_inputs=2)
async def aimed(_: int) -> str:
    await asyncio.sleep(1)
    return os.environ["MODAL_TASK_ID"]


@app.function(max_containers=1)
@modal.batched(max_batch_size=3, wait_ms=300)
def batch(xs: list[int], factors: list[int]) -> list[list[int]]:
    """For each input its product, and the batch that it was in."""
    return [[x * factor, *xs] for x, factor in zip(xs, factors, strict=True)]


@app.function(max_containers=1)
@modal.batched(max_batch_size=2, wait_ms=1000)
async def wrong(xs: list[str]) -> object:
    if "raise" in xs:
        raise KeyError("one for all")
    return {"short": xs[:-1], "tuple": tuple(xs)}[xs[0]]


@app.cls(max_containers=1)
class Batched:
    @modal.batched(max_batch_size=2, wait_ms=1000)
    def double(self, xs: list[int]) -> list[list[int]]:
        return [[2 * x, len(xs)] for x in xs]
