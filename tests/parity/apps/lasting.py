"""Calls that last until somebody ends them."""

import time
from collections.abc import Iterator

import modal

app = modal.App("lasting")


@app.function()
def work(x: int) -> int:
    print("one works")
    time.sleep(1000)
    return x


@app.function()
def endless() -> Iterator[int]:
    for number in range(100_000):
        yield number
        time.sleep(0.1)


@app.local_entrypoint()
def one() -> None:
    work.remote(1)


@app.local_entrypoint()
def many() -> None:
    list(work.map(range(3)))


@app.local_entrypoint()
def items() -> None:
    for number in endless.remote_gen():
        print("item", number)
