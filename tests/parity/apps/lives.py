"""Every kind of life that a container can be in when its emulator ends, and what user code starts in it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import modal

MARK = os.environ.get("MARK", "1000")
"""Seconds for which children sleep: a number that no other process of the machine has among its arguments."""

app = modal.App("lives", image=modal.Image.debian_slim().env({"MARK": MARK}))
kept = modal.Volume.from_name("lives", create_if_missing=True)


@app.function()
def stubborn() -> None:
    """In the middle of an input, deaf to every signal that can be ignored, with children in sessions of their own."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    subprocess.Popen(["setsid", "sleep", MARK])
    subprocess.Popen(["sh", "-c", f"trap '' TERM HUP INT; sleep {MARK}; true"], start_new_session=True)
    print("stubborn works")
    while True:
        time.sleep(1000)


@app.function(min_containers=1)
@modal.web_server(8123)
def pages() -> None:
    subprocess.Popen([sys.executable, "-m", "http.server", "8123"])
    print("pages serve")


@app.cls(min_containers=1)
class Boots:
    """Never gets as far as to take an input."""

    @modal.enter()
    def load(self) -> None:
        print("boots begin")
        time.sleep(1000)

    @modal.method()
    def hello(self) -> str:
        return "never"


@app.cls(min_containers=1, volumes={"/kept": kept})
class Polite:
    @modal.enter()
    def open(self) -> None:
        print("polite is up")

    @modal.method()
    def works(self) -> None:
        print("polite works")
        time.sleep(1000)

    @modal.exit()
    def leave(self) -> None:
        time.sleep(0.2)
        with Path("/kept/left").open("a") as file:
            file.write("left\n")


@app.local_entrypoint()
def main() -> None:
    stubborn.remote()
