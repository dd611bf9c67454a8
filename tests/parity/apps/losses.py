"""Inputs that each leave one line behind for every time that they ran to their end."""

import os
import random
import time
from pathlib import Path

import modal

app = modal.App("losses")
lines = modal.Volume.from_name("losses", create_if_missing=True)


@app.function(volumes={"/lines": lines}, max_containers=4)
def line(x: int, folder: str) -> int:
    with Path(f"/lines/{folder}").open("ab", buffering=0) as file:  # one write, at the end: no line is torn
        file.write(b"%d\n" % x)
    return x


@app.function(volumes={"/lines": lines})
def written(folder: str) -> list[int]:
    lines.reload()
    return [int(x) for x in Path(f"/lines/{folder}").read_text().split()]


@app.function(max_containers=4)
def slow(x: int) -> tuple[int, str]:
    time.sleep(random.uniform(0, 0.02))
    return x, os.environ["MODAL_TASK_ID"]


@app.function()
def answer() -> str:
    return os.environ["MODAL_TASK_ID"]
