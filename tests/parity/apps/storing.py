"""Functions that meet at Dicts and Queues."""

import os

import modal

app = modal.App("storing")
shared = modal.Dict.from_name("parity-storing", create_if_missing=True)


@app.function(max_containers=2)
def count(key: str) -> int:
    """A Dict that the app names itself."""
    shared[key] = shared.get(key, 0) + 1
    return shared[key]


@app.function(max_containers=2)
def write(name: str, key: str, value: object) -> list[object]:
    """A Dict by the name that it is told; what was in there before comes back."""
    named = modal.Dict.from_name(name, create_if_missing=True)
    before = sorted(named.keys())
    named[key] = value
    return before


@app.function(max_containers=2)
def relay(source: modal.Queue, found: modal.Dict, count: int) -> str:
    """Takes so many items of a Queue and keeps them in a Dict: both are passed to it."""
    for _ in range(count):
        number = source.get(timeout=20)
        found[number] = number * number
    return os.environ["MODAL_TASK_ID"]


@app.function(max_containers=2)
def produce(queue_id: str, count: int) -> str:
    queue = modal.Queue.from_id(queue_id)
    for number in range(count):
        queue.put(number)
    return os.environ["MODAL_TASK_ID"]


@app.function(max_containers=2)
async def doubled(source: modal.Queue, results: modal.Queue, count: int) -> None:
    for _ in range(count):
        await results.put.aio(2 * await source.get.aio(timeout=20))


@app.function(max_containers=2)
def holder(name: str) -> modal.Dict:
    """A handle that its caller can use."""
    made = modal.Dict.from_name(name, create_if_missing=True)
    made["by"] = "the container"
    return made


@app.function(max_containers=2)
def taker(source: modal.Queue) -> object:
    return source.get()


@app.function(max_containers=2, secrets=[modal.Secret.from_dict({"OF_THE_APP": "yes"})])
def variables(*names: str) -> list[str | None]:
    return [os.environ.get(name) for name in names]
