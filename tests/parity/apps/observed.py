import asyncio
import subprocess
import sys
import time

import modal

app = modal.App("observed")


@app.function(cpu=2, memory=512, max_containers=3, timeout=200, retries=0)
def say(what: str, seconds: float = 0) -> str:
    print(f"says {what}")
    print(f"complains of {what}", file=sys.stderr)
    time.sleep(seconds)
    return what


@app.function()
def fail() -> None:
    raise ValueError("as it was told")


@app.function(gpu="T4")
def on_a_gpu() -> None: ...


@app.function(max_containers=1)
def die() -> None:
    import os

    os._exit(3)


@app.cls()
class Greeter:
    greeting: str = modal.parameter(default="good day")

    @modal.method()
    def greet(self, name: str) -> str:
        print(f"{self.greeting}, {name}")
        return name


@app.cls()
class Tidy:
    """What it is called with ends only the second time."""

    @modal.method()
    def stay(self, begun: modal.Dict) -> str:
        first = begun.put("stay", True, skip_if_exists=True)
        print("stays", flush=True)
        time.sleep(150 if first else 0)
        return "stayed"

    @modal.method()
    async def linger(self, begun: modal.Dict) -> str:
        first = await begun.put.aio("linger", True, skip_if_exists=True)
        print("lingers", flush=True)
        await asyncio.sleep(150 if first else 0)
        return "lingered"

    @modal.exit()
    def leave(self) -> None:
        print("has tidied up", flush=True)


@app.function()
@modal.fastapi_endpoint(method="POST")
def page() -> str:
    return "page"


@app.server(port=8000, unauthenticated=True)
class Files:
    @modal.enter()
    def listen(self) -> None:
        print("the server listens", flush=True)
        self.process = subprocess.Popen([sys.executable, "-m", "http.server", "8000"])


@app.server(port=8001)
class Guarded:
    @modal.enter()
    def listen(self) -> None:
        self.process = subprocess.Popen([sys.executable, "-m", "http.server", "8001"])
