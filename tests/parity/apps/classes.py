import asyncio
import os
import time

import modal

app = modal.App("classes")


class Base:
    """Not registered itself: what it has is inherited."""

    greeting: str = modal.parameter(default="hello")

    @modal.enter()
    def start(self):
        self.steps = ["base enter"]

    @modal.method()
    def greet(self, name: str):
        return f"{self.greeting}, {name}"

    @modal.method()
    def overridden(self):
        return "base"


@app.cls(scaledown_window=2)
class Heir(Base):
    times: int = modal.parameter(default=1)

    @modal.enter()
    def more(self):
        self.steps.append("heir enter")

    @modal.method()
    def overridden(self):
        return "heir"

    @modal.method()
    def told(self):
        return self.steps, self.times


@app.cls(max_containers=4)
class Parameters:
    text: str = modal.parameter()
    number: int = modal.parameter(default=7)
    data: bytes = modal.parameter(default=b"\x00\xff")
    flag: bool = modal.parameter(default=False)
    loaded: str = modal.parameter(init=False)

    @modal.enter()
    def load(self):
        self.loaded = f"loaded {self.text}"
        self.calls = 0

    @modal.method()
    def told(self):
        self.calls += 1
        return {
            "values": (self.text, self.number, self.data, self.flag, self.loaded),
            "calls": self.calls,
            "task": os.environ["MODAL_TASK_ID"],
        }


@app.cls(enable_memory_snapshot=True)
class Ordered:
    @modal.enter(snap=True)
    def b_first(self):
        self.steps = ["snap b_first"]

    @modal.enter(snap=True)
    async def a_second(self):
        await asyncio.sleep(0)
        self.steps.append("snap a_second")

    @modal.enter()
    def z_third(self):
        self.steps.append("z_third")

    @modal.enter(snap=False)
    async def y_last(self):
        await asyncio.sleep(0)
        self.steps.append("y_last")

    @modal.method()
    def told(self):
        return self.steps


@app.cls()
class Kinds:
    @modal.method()
    async def awaited(self, x: int):
        await asyncio.sleep(0)
        return x + 1

    @modal.method()
    def items(self, n: int):
        yield from range(n)

    @modal.method()
    async def aitems(self, n: int):
        for i in range(n):
            await asyncio.sleep(0)
            yield i * 10

    @modal.method()
    def calls_another(self, x: int):
        return self.awaited.remote(x) * 2

    def helper(self):
        return "a plain method"

    @modal.method()
    def uses_helper(self):
        return self.helper()


@app.cls(env={"COLOUR": "red"}, timeout=30, max_containers=2)
class Options:
    @modal.enter()
    def begin(self):
        self.inside = 0
        self.enough = asyncio.Event()

    @modal.method()
    def variable(self, name: str):
        return os.environ.get(name)

    @modal.method()
    def sleep(self, seconds: float):
        time.sleep(seconds)

    @modal.method()
    async def together(self, n: int):
        """Returns once `n` of these run in this container at once."""
        self.inside += 1
        if self.inside == n:
            self.enough.set()
        await asyncio.wait_for(self.enough.wait(), 20)
        return os.environ["MODAL_TASK_ID"]

    @modal.method()
    def task(self):
        return os.environ["MODAL_TASK_ID"]


@app.cls()
class Batches:
    @modal.method()
    def sizes(self, x: list[int]):
        return [len(x)] * len(x)


@app.cls()
class Batched:
    @modal.batched(max_batch_size=3, wait_ms=400)
    def sizes(self, x: list[int]) -> list[int]:
        return [len(x)] * len(x)


@app.cls()
@modal.concurrent(max_inputs=4)
class Concurrent:
    @modal.enter()
    def begin(self):
        self.inside = 0
        self.enough = asyncio.Event()

    @modal.method()
    async def together(self, n: int):
        self.inside += 1
        if self.inside == n:
            self.enough.set()
        await asyncio.wait_for(self.enough.wait(), 20)
        return os.environ["MODAL_TASK_ID"]


@app.cls()
class Refuses:
    reason: str = modal.parameter()

    @modal.enter()
    def begin(self):
        raise ValueError(self.reason)

    @modal.method()
    def never(self):
        return "it started"


@app.cls(startup_timeout=1, timeout=30, max_containers=1)
class Slow:
    @modal.enter()
    def begin(self):
        time.sleep(20)

    @modal.method()
    def never(self):
        return "it started"


@app.cls()
class Page:
    name: str = modal.parameter()
    times: int = modal.parameter(default=1)
    loud: bool = modal.parameter(default=False)

    @modal.fastapi_endpoint(docs=False)
    def greet(self, mark: str = "."):
        text = f"hello {self.name}" * self.times + mark
        return {"text": text.upper() if self.loud else text, "task": os.environ["MODAL_TASK_ID"]}

    @modal.method()
    def task(self):
        return os.environ["MODAL_TASK_ID"]
