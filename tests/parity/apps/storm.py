"""Many inputs at once. Each one leaves a file of its own, so that it shows if it was worked on twice."""

import asyncio
import os
import pathlib
import time
import uuid

import modal

app = modal.App("storm")
traces = modal.Volume.from_name("parity-storm-traces", create_if_missing=True)


@app.function(volumes={"/traces": traces}, max_containers=4)
@modal.concurrent(max_inputs=250)
async def together(run, number):
    trace(run, number)
    await asyncio.sleep(0.5)
    return number * number


@app.function(volumes={"/traces": traces}, max_containers=6)
def alone(run, number, seconds=0.0):
    trace(run, number)
    time.sleep(seconds)
    return number * number, os.environ["MODAL_TASK_ID"]


@app.function(volumes={"/traces": traces})
def traced(run):
    return sorted(int(entry.name.split("-")[0]) for entry in pathlib.Path("/traces", run).iterdir())


def trace(run, number):
    folder = pathlib.Path("/traces", run)
    folder.mkdir(exist_ok=True)
    (folder / f"{number}-{uuid.uuid4()}").touch()
