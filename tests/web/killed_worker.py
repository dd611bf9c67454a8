"""Workers that die: started once by a test, it forks one for each line that it reads.

A line is a JSON object: `owner`, `batch`, `engine` (its address), `later` (seconds that its clock is ahead), and
`dies`: before which of its writes to S3 and DynamoDB (null: it lives). After a write is before the next one: nothing
else outlives a worker. It answers each with the names of the writes that the worker has begun.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from typing import Any

from functions.shared import SharedState
from functions.state import file_storage
from infra.aws import Clients
from infra.objects import Objects
from infra.settings import Batches
from infra.table import Bucket, Table
from tests.configured_engines import ConfiguredEngines
from tests.web.conftest import settings_with, target_of
from web import batch_work
from web.application import create_application
from web.batch_worker import BatchWorker
from web.batches import Batch, Storage
from web.clock import RealClock
from web.services import Services

WRITES = {
    "put_item", "update_item", "delete_item", "transact_write_items", "put_object", "copy_object", "delete_objects",
    "create_multipart_upload", "upload_part", "complete_multipart_upload",
}  # fmt: skip


class LaterClock(RealClock):
    def __init__(self, later: float) -> None:
        self._later = later

    def time(self) -> float:  # type: ignore[override]
        return time.time() + self._later


class DeadlyClients(Clients):
    """Counts what is written, and kills the process at one of these."""

    def __init__(self) -> None:
        super().__init__()
        self.out = -1
        self.dies: int | None = None
        self._count = 0

    def call_now(self, service: Any, operation: str, /, **arguments: Any) -> dict[str, Any]:
        if operation not in WRITES:
            return super().call_now(service, operation, **arguments)
        self._count += 1
        os.write(self.out, f"{operation}\n".encode())
        if self._count == self.dies:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().call_now(service, operation, **arguments)


class Here:
    """A runner that keeps the worker."""

    worker: BatchWorker

    def take(self, worker: BatchWorker) -> None:
        self.worker = worker

    async def start(self, batch: Batch) -> None: ...

    def nudge(self, batch: Batch) -> None: ...


async def work(told: dict[str, Any], name: str, clients: DeadlyClients) -> None:
    batch_work.PART_LINES = 8
    clock = LaterClock(told["later"])
    clients.dies = told["dies"]
    state = SharedState(clients, Table(clients, name), Bucket(clients, name), Objects(clients, name))
    runner = Here()
    storage = file_storage(state, clock, runner=runner)
    assert isinstance(storage, Storage)
    settings = settings_with().model_copy(update={"batches": Batches(concurrency=4)})
    engines = ConfiguredEngines(settings.models, {"scripted": target_of(told["engine"])})
    create_application(Services(settings=settings, engines=engines, clock=clock, storage=storage))
    await runner.worker.run(told["owner"], told["batch"])


def main(name: str) -> None:
    clients = DeadlyClients()
    for service in ("s3", "dynamodb"):
        clients.client(service)  # type: ignore[arg-type]  # takes long, and opens no connection
    for line in sys.stdin:
        read, write = os.pipe()
        if not (child := os.fork()):
            os.close(read)
            try:
                clients.out = write
                asyncio.run(work(json.loads(line), name, clients))
            finally:
                os._exit(0)
        os.close(write)
        with os.fdopen(read) as told:
            writes = told.read().split()
        os.waitpid(child, 0)
        print(json.dumps(writes), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
