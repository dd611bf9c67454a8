"""What `modal.experimental` has for functions."""

import asyncio
import os

import modal
import modal.experimental

app = modal.App("experiments")


@app.function(max_containers=1)
def last_one() -> str:
    modal.experimental.stop_fetching_inputs()
    return os.environ["MODAL_TASK_ID"]


@app.function()
def streams() -> str:
    """What becomes of a Stream's first entry."""
    try:
        modal.experimental.Stream.from_name("some-stream").append(1)
    except modal.exception.Error as error:
        return str(error)
    return "appended"


@app.function(max_containers=1)
@modal.concurrent(max_inputs=10)
async def narrowed(to: int) -> int:
    """How many inputs its container takes at once, after it has been told how many."""
    if to:
        modal.experimental.set_local_input_concurrency(to)
    await asyncio.sleep(0.1)
    return modal.experimental.get_local_input_concurrency()
