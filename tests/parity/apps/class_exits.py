import asyncio
import os
import time
from pathlib import Path

import modal

app = modal.App("class-exits")
notes = modal.Volume.from_name("parity-class-exits", create_if_missing=True)
NOTES = "/notes"


def note(key: str, line: str):
    with Path(NOTES, key).open("a") as file:
        file.write(line + "\n")


@app.cls(volumes={NOTES: notes}, scaledown_window=2, max_containers=1)
class Leaves:
    key: str = modal.parameter()

    @modal.enter()
    def begin(self):
        self.served = 0

    @modal.method()
    def serve(self):
        self.served += 1
        return os.environ["MODAL_TASK_ID"]

    @modal.method()
    def busy(self, seconds: float):
        note(self.key, "busy")
        notes.commit()
        time.sleep(seconds)
        self.served += 1
        return self.served

    @modal.exit()
    def one(self):
        note(self.key, f"one after {self.served}")

    @modal.exit()
    async def two(self):
        await asyncio.sleep(0)
        note(self.key, "two")


@app.cls(volumes={NOTES: notes}, scaledown_window=2, max_containers=1)
class Lingers:
    key: str = modal.parameter()

    @modal.method()
    def serve(self):
        return os.environ["MODAL_TASK_ID"]

    @modal.exit()
    def stay(self):
        note(self.key, "begun")
        for _ in range(34):
            time.sleep(1)
            note(self.key, "still here")
        note(self.key, "ended")


@app.cls(volumes={NOTES: notes}, max_containers=1)
class TakesItsTime:
    key: str = modal.parameter()

    @modal.method()
    def serve(self):
        return 1

    @modal.exit()
    def stay(self):
        note(self.key, "begun")
        time.sleep(6)
        note(self.key, "ended")


@app.cls(volumes={NOTES: notes}, scaledown_window=2, max_containers=1)
class FailsToLeave:
    key: str = modal.parameter()

    @modal.method()
    def serve(self):
        return 1

    @modal.exit()
    def fail(self):
        note(self.key, "raises")
        raise RuntimeError("on the way out")


@app.function(volumes={NOTES: notes}, scaledown_window=60, max_containers=1)
def read(key: str):
    notes.reload()
    path = Path(NOTES, key)
    return path.read_text().splitlines() if path.exists() else []
