"""A class whose containers start and die at once."""

import os
import threading

import modal

app = modal.App("dying")


@app.cls(min_containers=1)
class DiesYoung:
    @modal.enter()
    def start(self) -> None:
        # Not at once, so that it has started.
        threading.Timer(0.05, os._exit, [3]).start()

    @modal.method()
    def work(self) -> None:
        pass
