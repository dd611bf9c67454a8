"""An app that the tests of thread containers deploy from their own process."""

from __future__ import annotations

import _thread
import asyncio
import contextlib
import io
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from os import environ
from typing import Any

import modal

GREETING = "hello"

app = modal.App("thread-app", include_source=False)


@app.function()
def greet(name: str) -> tuple[str, int]:
    return f"{GREETING} {name}", os.getpid()


@app.function()
def whereabouts() -> tuple[bool, str | None, str | None]:
    return modal.is_local(), modal.current_input_id(), modal.current_function_call_id()


def _colours() -> dict[str, Any]:
    return {
        "COLOUR": os.environ["COLOUR"],
        "copied": os.environ.copy()["COLOUR"],
        "imported": environ["COLOUR"],
        "getenv": os.getenv("COLOUR"),
        "SECRET": os.environ.get("SECRET"),
        "names": sorted(os.environ),
    }


@app.function(env={"COLOUR": "red"}, secrets=[modal.Secret.from_dict({"SECRET": "s3cret"})])
def red() -> dict[str, Any]:
    return _colours()


@app.function(env={"COLOUR": "blue"})
async def blue() -> dict[str, Any]:
    return _colours()


@app.function()
def sets_variable(value: str) -> str | None:
    os.environ["SET_INSIDE"] = value
    return os.getenv("SET_INSIDE")


@app.function(env={"COLOUR": "green"})
def heirs() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    asks = [sys.executable, "-c", "import os; print(os.environ.get('COLOUR'))"]
    found["child"] = subprocess.run(asks, capture_output=True, text=True, check=True).stdout.strip()
    mine = {**os.environ, "COLOUR": "mine"}
    done = subprocess.run(asks, capture_output=True, text=True, env=mine, check=True)
    found["child with its own"] = done.stdout.strip()
    found["shell"] = subprocess.getoutput("echo $COLOUR")

    thread = threading.Thread(target=lambda: found.update(thread=os.environ.get("COLOUR")))
    thread.start()
    thread.join()
    with ThreadPoolExecutor() as pool:
        found["executor"] = pool.submit(os.getenv, "COLOUR").result()

    async def tasks() -> None:
        found["to_thread"] = await asyncio.to_thread(os.getenv, "COLOUR")

        async def task() -> None:
            found["task"] = os.getenv("COLOUR")

        await asyncio.create_task(task())

    asyncio.run(tasks())
    return found


@app.function()
def talks(word: str) -> None:
    print(f"stdout: {word}")
    print(f"stderr: {word}", file=sys.stderr)
    with contextlib.redirect_stdout(io.StringIO()):
        print("redirected")
    thread = threading.Thread(target=lambda: print(f"thread: {word}"))
    thread.start()
    thread.join()

    async def loop() -> None:
        print(f"loop: {word}")

    asyncio.run(loop())
    subprocess.run(["echo", f"child: {word}"], check=True)


@app.function(max_containers=1)
def sleeps(seconds: float = 600.0) -> str:
    try:
        print("sleeping")
        time.sleep(seconds)
    except BaseException as error:
        print(f"{type(error).__name__}: {error}")
        raise
    return "slept"


@app.cls(max_containers=1)
class Lasting:
    @modal.exit()
    def leave(self) -> None:
        print("exit handler")

    @modal.method()
    def work(self) -> None:
        print("working")
        threading.Event().wait()


@app.function()
def crashes() -> None:
    os._exit(3)


_BLOCKED = _thread.allocate_lock()


@app.function(max_containers=1)
def blocks() -> str:
    print("blocking")
    _BLOCKED.acquire()
    _BLOCKED.acquire()  # in C code, where nothing reaches it
    print("late")
    return "late"


def unblock() -> None:
    _BLOCKED.release()


@app.function(env={"COLOUR": "green"}, max_containers=1)
@modal.concurrent(max_inputs=6)
def together(_: int) -> tuple[str | None, str | None]:
    time.sleep(0.01)
    return modal.current_input_id(), os.environ.get("COLOUR")


@app.function(env={"COLOUR": "green"}, max_containers=1)
@modal.concurrent(max_inputs=6)
async def atogether(_: int) -> tuple[str | None, str | None]:
    await asyncio.sleep(0.01)
    return modal.current_input_id(), os.environ.get("COLOUR")


@app.function()
def handles_signal() -> str:
    handled = threading.Event()
    signal.signal(signal.SIGUSR2, lambda *_: handled.set())
    os.kill(os.getpid(), signal.SIGUSR2)
    return "handled" if handled.wait(20) else "not handled"


@app.function(timeout=1, max_containers=1)
def too_long(seconds: float) -> str:
    time.sleep(seconds)
    return os.environ["MODAL_TASK_ID"]


@app.function(single_use_containers=True)
def leaves_a_thread() -> tuple[bool, bool]:
    def write() -> None:
        time.sleep(0.3)
        print("written late")

    late = threading.Thread(target=write)
    daemon = threading.Thread(target=time.sleep, args=(600,), daemon=True)
    kinds = late.daemon, daemon.daemon
    late.start()
    daemon.start()
    return kinds
