"""Many inputs at once. Each one leaves an entry of its own, so that it shows if it was worked on twice."""

import asyncio
import os
import time
import uuid

import modal

app = modal.App("storm")
traces = modal.Dict.from_name("parity-storm-traces", create_if_missing=True)


@app.function(max_containers=4)
@modal.concurrent(max_inputs=250)
async def together(run, number):
    await traces.put.aio(trace(run, number), None)
    await asyncio.sleep(0.5)
    return number * number


@app.function(max_containers=6)
def alone(run, number, seconds=0.0):
    traces.put(trace(run, number), None)
    time.sleep(seconds)
    return number * number, os.environ["MODAL_TASK_ID"]


@app.function()
def traced(run):
    return sorted(number for of, number, _ in traces.keys() if of == run)  # noqa: SIM118 - a Dict is no mapping


def trace(run, number):
    """The key of an entry that says that an input was worked on, and that no other takes the place of."""
    return run, number, str(uuid.uuid4())
