"""Workers of batches: one that was asleep while another took over, one that is told to go, and what they cost."""

from __future__ import annotations

import asyncio
import json
import shutil
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest

from infra.aws import StateUnavailable
from infra.settings import Batches, Settings
from tests.web.batch_kit import lines, request
from tests.web.conftest import settings_with
from tests.web.doubles import HandClock
from web import batch_lines, batch_work
from web.batch_requests import BatchRequests
from web.batch_store import in_memory
from web.batch_worker import BatchWorker
from web.batches import LEASE_SECONDS, Batch, Storage
from web.caller import Caller
from web.dialects.batches import NewBatch
from web.files import Files
from web.line_requests import LineAnswer
from web.objects import ObjectsInMemory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from web.objects import Writer

ANSWER = json.dumps({"choices": [], "usage": {"prompt_tokens": 2, "completion_tokens": 3}}).encode()


class Runner:
    def take(self, worker: BatchWorker) -> None: ...

    async def start(self, batch: Batch) -> None: ...

    def nudge(self, batch: Batch) -> None: ...


class Bench:
    """A batch in memory, and an engine's stand-in that answers when it may."""

    def __init__(self, *, concurrency: int = 4) -> None:
        self.clock = HandClock()
        self.objects = ObjectsInMemory()
        kept = in_memory()
        self.storage = Storage(files=kept.files, batches=kept.batches, objects=self.objects)
        self.settings: Settings = settings_with().model_copy(update={"batches": Batches(concurrency=concurrency)})
        self.files = Files(self.storage.files, self.objects, settings=self.settings.files, clock=self.clock)
        self.asked: list[str] = []
        self.open = asyncio.Event()
        self.open.set()

    async def ask(self, path: str, body: bytes, caller: Caller) -> LineAnswer:
        self.asked.append(json.loads(body)["messages"][0]["content"])
        await self.open.wait()
        return LineAnswer(200, "req_1", {}, ANSWER)

    def worker(self, storage: Storage | None = None) -> BatchWorker:
        return BatchWorker(storage or self.storage, self.ask, settings=self.settings, clock=self.clock)

    async def batch(self, content: bytes) -> Batch:
        async with self.files.upload("public") as upload:
            await upload.write(content)
            file = await upload.finish(filename="in", purpose="batch", expires_in=None)
        requests = BatchRequests(
            self.storage.batches, Runner(), self.files, settings=self.settings.batches, clock=self.clock
        )  # fmt: skip
        wanted = NewBatch(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
        return await requests.create(Caller(identity="ip:1"), wanted)

    async def kept(self, batch: Batch) -> Batch:
        found = await self.storage.batches.load(batch.owner, batch.id)
        assert found is not None
        return found

    async def told(self, batch: Batch) -> list[str]:
        """The ids in its output file, in order."""
        file = await self.files.get(batch.owner, str((await self.kept(batch)).output_file_id))
        content = b"".join([piece async for piece in self.files.content(file)])
        return sorted(json.loads(line)["custom_id"] for line in content.splitlines())


async def settle(done: Callable[[], Any]) -> None:
    """Let the loop run until `done()`."""
    async with asyncio.timeout(20):
        while not done():  # noqa: ASYNC110
            await asyncio.sleep(0)


IDS = [str(n) for n in range(10)]


class Asleep(ObjectsInMemory):
    """Objects that hold up whoever writes a part."""

    def __init__(self, objects: ObjectsInMemory) -> None:
        super().__init__()
        self.kept = objects.kept
        self.held = False
        self.awake = asyncio.Event()

    async def put(self, key: str, body: bytes) -> None:
        self.held = True
        await self.awake.wait()
        await super().put(key, body)


async def test_a_worker_that_slept_while_another_took_over_changes_nothing() -> None:
    bench = Bench()
    batch = await bench.batch(lines(request(name, name) for name in IDS))
    asleep = Asleep(bench.objects)
    storage = Storage(files=bench.storage.files, batches=bench.storage.batches, objects=asleep)
    first = asyncio.create_task(bench.worker(storage).run(batch.owner, batch.id))
    await settle(lambda: asleep.held)
    # Its process is stopped: no heart beats, though time goes by.
    kept = await bench.kept(batch)
    bench.clock._now += LEASE_SECONDS
    assert await bench.worker().run(batch.owner, batch.id)
    done = await bench.kept(batch)
    assert (done.status, done.completed, len(done.workers)) == ("completed", 10, 2)
    asleep.awake.set()
    assert not await first
    assert await bench.kept(batch) == done
    assert await bench.told(batch) == IDS
    assert kept.parts == 0


async def test_a_worker_that_is_told_to_go_keeps_what_was_answered_and_the_next_one_takes_over_at_once() -> None:
    bench = Bench(concurrency=2)
    batch = await bench.batch(lines(request(name, name) for name in IDS))
    bench.open.clear()
    first = asyncio.create_task(bench.worker().run(batch.owner, batch.id))
    await settle(lambda: len(bench.asked) == 2)
    bench.open.set()
    await asyncio.sleep(0)
    bench.open.clear()
    await settle(lambda: len(bench.asked) > 3)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    kept = await bench.kept(batch)
    assert kept.status == "in_progress"
    assert kept.completed >= 2
    bench.asked.clear()
    bench.open.set()
    assert await bench.worker().run(batch.owner, batch.id)
    assert len(bench.asked) == 10 - kept.completed, "what was kept is not asked again"
    assert await bench.told(batch) == IDS
    assert (await bench.kept(batch)).tokens.output == 30


async def test_state_that_is_away_for_a_while_costs_a_batch_nothing_but_time() -> None:
    class Flaky(ObjectsInMemory):
        count = 0

        async def put(self, key: str, body: bytes) -> None:
            self.count += 1
            if self.count % 3:
                raise StateUnavailable("throttled")
            await super().put(key, body)

    bench = Bench()
    flaky = Flaky()
    flaky.kept = bench.objects.kept
    batch = await bench.batch(lines(request(name, name) for name in IDS))
    storage = Storage(files=bench.storage.files, batches=bench.storage.batches, objects=flaky)
    task = asyncio.create_task(bench.worker(storage).run(batch.owner, batch.id))
    async with asyncio.timeout(20):
        while not task.done():
            await asyncio.sleep(0)
            bench.clock.advance(0.1)
    assert await task
    assert flaky.count >= 3
    assert await bench.told(batch) == IDS


async def test_one_that_kills_its_workers_is_given_up() -> None:
    bench = Bench()
    batch = await bench.batch(lines([request("a")]))

    async def dies(path: str, body: bytes, caller: Caller) -> LineAnswer:
        raise RuntimeError("out of memory")

    worker = BatchWorker(bench.storage, dies, settings=bench.settings, clock=bench.clock)
    for _ in range(10):
        with pytest.raises(RuntimeError):
            await worker.run(batch.owner, batch.id)
    assert await worker.run(batch.owner, batch.id)
    kept = await bench.kept(batch)
    assert kept.status == "failed"
    assert [error.code for error in kept.errors] == ["worker_failed"]


class OnDisk(ObjectsInMemory):
    """Objects in a folder: as far from this process's memory as S3."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    async def put(self, key: str, body: bytes) -> None:
        self._at(key).write_bytes(body)

    async def read(self, key: str, start: int, length: int) -> bytes:
        path = self._at(key)
        with path.open("rb") as file:
            file.seek(start)
            return file.read(max(0, min(length, path.stat().st_size - start)))  # room is made for what is asked for

    async def copy(self, source: str, target: str) -> None:
        shutil.copy(self._at(source), self._at(target))

    async def remove(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._at(key).unlink(missing_ok=True)

    def writer(self, key: str) -> Writer:
        return DiskWriter(self._at(key))

    def names(self) -> list[str]:
        return [path.name for path in self._folder.iterdir()]

    def _at(self, key: str) -> Path:
        return self._folder / key.replace("/", "_")


class DiskWriter:
    def __init__(self, path: Path) -> None:
        self.size = 0
        self._file = path.open("wb")

    async def write(self, data: bytes) -> None:
        self.size += self._file.write(data)

    async def close(self) -> None:
        self._file.close()

    async def abort(self) -> None:
        self._file.close()


@pytest.mark.slow
async def test_a_large_batch_is_never_in_memory_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    portion, count, long = 128 * 1024, 8000, "x" * 2000
    monkeypatch.setattr(batch_work, "PART_BYTES", portion)
    monkeypatch.setattr(batch_lines, "READ_BYTES", portion)
    bench = Bench(concurrency=32)
    objects = OnDisk(tmp_path)
    storage = Storage(files=bench.storage.files, batches=bench.storage.batches, objects=objects)
    bench.files = Files(storage.files, objects, settings=bench.settings.files, clock=bench.clock)
    batch = await bench.batch(lines(request(str(n), long) for n in range(count)))
    answer = json.dumps({"choices": [long], "usage": {}}).encode()

    async def ask(path: str, body: bytes, caller: Caller) -> LineAnswer:
        return LineAnswer(200, "req_1", {}, answer)

    tracemalloc.start()
    try:
        worker = BatchWorker(storage, ask, settings=bench.settings, clock=bench.clock)
        assert await worker.run(batch.owner, batch.id)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    kept = await bench.kept(batch)
    assert (kept.completed, kept.swept) == (count, True)
    assert (await bench.files.get(batch.owner, str(kept.output_file_id))).size > count * len(long)
    assert peak < 0.35 * count * len(long), "input and output have as much each"
    assert len(objects.names()) == 2, "its input and its output"
