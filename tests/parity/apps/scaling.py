"""Functions, a class and a Server that scale, each in its own way. What runs where is told by the container's id."""

import asyncio
import os
import subprocess
import sys
import time

import modal

app = modal.App("scaling")


def container() -> str:
    return os.environ["MODAL_TASK_ID"]


@app.function(max_containers=2)
def two_at_most(seconds: float) -> str:
    time.sleep(seconds)
    return container()


@app.function(max_containers=1)
def one_at_most(seconds: float) -> str:
    time.sleep(seconds)
    return container()


@app.function(min_containers=1)
def kept() -> str:
    return container()


@app.function(buffer_containers=1, max_containers=3)
def buffered(seconds: float) -> str:
    time.sleep(seconds)
    return container()


@app.function(scaledown_window=2)
def short_lived() -> str:
    return container()


@app.function(max_containers=4)
@modal.concurrent(max_inputs=10, target_inputs=2)
async def targeted(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return container()


@app.function(max_containers=1)
@modal.concurrent(max_inputs=4, target_inputs=1)
async def bursting(seconds: float) -> float:
    began = time.time()
    await asyncio.sleep(seconds)
    return began


@app.function(max_containers=int(os.environ.get("UPDATED_AT_MOST", "5")), scaledown_window=30)
def updated(seconds: float = 0.0) -> str:
    time.sleep(seconds)
    return container()


@app.cls(scaledown_window=30)
class Model:
    name: str = modal.parameter(default="")

    @modal.method()
    def where(self) -> str:
        return container()


@app.cls()
class Broken:
    @modal.enter()
    def start(self) -> None:
        raise RuntimeError("these weights are broken")

    @modal.method()
    def work(self) -> None:
        pass


@app.cls(max_containers=3)
class Nested:
    """It cannot start until another function has."""

    @modal.enter()
    def start(self) -> None:
        self.other = one_at_most.remote(0.0)

    @modal.method()
    def where(self) -> str:
        time.sleep(0.5)
        return self.other


@app.cls()
class Slow:
    @modal.enter()
    def start(self) -> None:
        time.sleep(4)

    @modal.method()
    def where(self) -> str:
        return container()


@app.server(port=8000, unauthenticated=True, max_containers=3, scaledown_window=30)
class Site:
    @modal.enter()
    def start(self) -> None:
        subprocess.Popen([sys.executable, "-m", "http.server", "8000", "--bind", "127.0.0.1"])
