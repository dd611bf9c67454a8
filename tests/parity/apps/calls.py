"""Functions to be called in every way."""

import asyncio
import os
import pathlib
import sys
import threading
import time
import types

import modal

app = modal.App("calls")
notes = modal.Volume.from_name("parity-calls-notes", create_if_missing=True)


@app.function()
def add(x, y=100):
    return x + y


@app.function()
def even(x):
    if x % 2:
        raise ValueError(f"{x} is odd")
    return x


@app.function()
def whereabouts():
    return {
        "input": modal.current_input_id(),
        "call": modal.current_function_call_id(),
        "local": modal.is_local(),
        "add": add.local(1, 2),
    }


@app.function()
def factorial(n):
    return n * factorial.remote(n - 1) if n else 1


@app.function()
def total(n):
    return sum(add.map(range(n), kwargs={"y": 0}))


@app.function()
async def spread(n):
    calls = [await add.spawn.aio(i, y=0) for i in range(n)]
    return await modal.FunctionCall.gather.aio(*calls)


@app.function()
def borrow(app_name, name, *args):
    return modal.Function.from_name(app_name, name).remote(*args)


@app.function()
def count(n, stop_at=None):
    for i in range(n):
        if i == stop_at:
            raise ValueError(f"no more than {i}")
        yield i


@app.function()
async def acount(n, stop_at=None):
    for i in range(n):
        if i == stop_at:
            raise ValueError(f"no more than {i}")
        yield i
        await asyncio.sleep(0)


@app.function(max_containers=1)
def sleep(seconds):
    print(f"sleeping for {seconds} s")
    time.sleep(seconds)
    return seconds


@app.function()
@modal.concurrent(max_inputs=10)
async def wait(seconds):
    await asyncio.sleep(seconds)
    return seconds


@app.function()
@modal.concurrent(max_inputs=10)
async def container(seconds):
    await asyncio.sleep(seconds)
    return os.environ["MODAL_TASK_ID"]


@app.function(volumes={"/notes": notes}, max_containers=1)
def note(folder, name=None):
    """Without a name: which there are."""
    path = pathlib.Path("/notes", folder)
    path.mkdir(exist_ok=True)
    if name is not None:
        (path / name).touch()
    return sorted(entry.name for entry in path.iterdir())


@app.function()
def flood(megabytes):
    for _ in range(megabytes):
        yield bytes(1 << 20)


@app.function()
def echo(data, more=0):
    return data + bytes(more)


@app.function()
def lock():
    return threading.Lock()


class Holding(Exception):
    def __init__(self, text):
        super().__init__(text)
        self.lock = threading.Lock()


@app.function()
def fail(how):
    if how == "own":
        raise OwnError("of a class of the app", 7)
    if how == "unpicklable":
        raise Holding("it holds a lock")
    only_there = sys.modules["only_there"] = types.ModuleType("only_there")
    exec("class Strange(Exception): pass", vars(only_there))
    if how == "result":
        return only_there.Strange("not importable at the caller")
    raise only_there.Strange("from a module of the container")


class OwnError(Exception):
    def __init__(self, text, number):
        super().__init__(text, number)
        self.number = number


@app.function()
def ask():
    modal.interact()


@app.function()
@modal.fastapi_endpoint()
def page():
    return "hello"


@app.cls()
class Greeter:
    name: str = modal.parameter(default="you")

    @modal.method()
    def greet(self):
        return f"hello {self.name}"
