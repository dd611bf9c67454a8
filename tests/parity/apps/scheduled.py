"""Functions that run by themselves. What they are called with, they say in the log."""

import os
import time

import modal

app = modal.App("scheduled")
SECONDS = int(os.environ.get("PARITY_SECONDS", "1"))


@app.function(schedule=modal.Period(seconds=SECONDS), max_containers=1)
def often(*args: object, word: str = "nothing") -> None:
    print(f"often: {args} {word}", flush=True)


@app.function(schedule=modal.Cron("0 6 * * *", timezone="America/New_York"))
def daily() -> None:
    print("daily", flush=True)


@app.function()
def plain(seconds: float = 0) -> str:
    time.sleep(seconds)
    return "plain"


@app.local_entrypoint()
def main() -> None:
    print(plain.remote(2))
