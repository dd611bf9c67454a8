"""Killed at any step, a batch's worker loses no line and doubles none: another one goes on where it was."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.web.batch_kit import lines, request
from tests.web.test_files import storage_of
from web.batch_requests import BatchRequests
from web.caller import Caller
from web.clock import RealClock
from web.dialects.batches import NewBatch
from web.files import Files

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from emulator.aws import Aws
    from functions.engines.scripted_server import ScriptedServer
    from tests.aws_kit import StateOfTest
    from web.batches import Batch

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

LINES = 20
BAD = {"3", "17"}
"""Lines that the engine refuses."""


class Workers:
    """The process that forks them."""

    def __init__(self, process: asyncio.subprocess.Process, engine: str) -> None:
        self._process = process
        self._engine = engine

    async def run(self, batch: Batch, *, later: float = 0.0, dies: int | None = None) -> list[str]:
        """One works on the batch until its end, or the batch's. Its writes."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        told = {"owner": batch.owner, "batch": batch.id, "engine": self._engine, "later": later, "dies": dies}
        self._process.stdin.write(json.dumps(told).encode() + b"\n")
        await self._process.stdin.drain()
        return list(json.loads(await self._process.stdout.readline()))


@pytest.fixture
async def workers(engine: ScriptedServer, aws_server: Aws, aws_state: StateOfTest) -> AsyncIterator[Workers]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.web.killed_worker", aws_state.name, stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE, env={**os.environ, **aws_server.environment()}, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    yield Workers(process, engine.url)
    process.kill()
    await process.wait()


class Bench:
    """Batches, made past the web."""

    def __init__(self, state: StateOfTest) -> None:
        clock = RealClock()
        self._state = state
        self.storage = storage_of(state, clock)
        from infra.settings import Settings

        settings = Settings()
        self._files = Files(self.storage.files, self.storage.objects, settings=settings.files, clock=clock)
        self._requests = BatchRequests(
            self.storage.batches, _Nobody(), self._files, settings=settings.batches, clock=clock
        )  # fmt: skip
        self._caller = Caller(identity="key:mine")

    async def batch(self) -> Batch:
        scripts = ({"status": 400} if str(n) in BAD else {} for n in range(LINES))
        async with self._files.upload("key:mine") as upload:
            await upload.write(lines(request(str(n), x_scripted=script) for n, script in enumerate(scripts)))
            file = await upload.finish(filename="in", purpose="batch", expires_in=None)
        wanted: dict[str, Any] = {"input_file_id": file.id, "endpoint": "/v1/chat/completions"}
        return await self._requests.create(self._caller, NewBatch(completion_window="24h", **wanted))

    async def check(self, batch: Batch) -> None:
        """It is complete, tells each line once, and has left nothing else."""
        kept = await self.storage.batches.load(batch.owner, batch.id)
        assert kept is not None
        assert (kept.status, kept.swept, kept.total) == ("completed", True, LINES)
        good, bad = await self._told(kept, kept.output_file_id), await self._told(kept, kept.error_file_id)
        assert sorted(line["custom_id"] for line in bad) == sorted(BAD)
        assert sorted(int(line["custom_id"]) for line in good) == [n for n in range(LINES) if str(n) not in BAD]
        assert (kept.completed, kept.failed) == (len(good), len(bad))
        assert kept.tokens.output == sum(line["response"]["body"]["usage"]["completion_tokens"] for line in good)
        names = self._state.objects()
        assert not [name for name in names if name.startswith("batches/")]
        files = await self.storage.files.listed(batch.owner)
        assert sorted(file.at for file in files) == sorted(names)
        assert {file.state for file in files} == {"ready"}
        for file in files:
            await self._files.delete(batch.owner, file.id)

    async def _told(self, batch: Batch, file_id: str | None) -> list[dict[str, Any]]:
        file = await self._files.get(batch.owner, str(file_id))
        content = b"".join([piece async for piece in self._files.content(file)])
        return [json.loads(line) for line in content.splitlines()]


class _Nobody:
    def take(self, worker: Any) -> None: ...

    async def start(self, batch: Any) -> None: ...

    def nudge(self, batch: Any) -> None: ...


async def test_killed_between_any_two_writes_no_line_is_lost_and_none_is_told_twice(
    workers: Workers, aws_state: StateOfTest
) -> None:
    bench = Bench(aws_state)
    batch = await bench.batch()
    writes = await workers.run(batch)
    assert {"copy_object", "put_object", "put_item", "transact_write_items", "delete_objects"} <= set(writes)
    await bench.check(batch)
    for number in range(1, len(writes) + 1):
        batch = await bench.batch()
        assert len(await workers.run(batch, dies=number)) <= number, "it died there, unless it had less to write"
        await workers.run(batch, later=61)
        await bench.check(batch)


async def test_killed_again_and_again_it_comes_to_its_end(workers: Workers, aws_state: StateOfTest) -> None:
    chance = random.Random(7)
    bench = Bench(aws_state)
    batch = await bench.batch()
    for turn in range(8):
        await workers.run(batch, later=61.0 * turn, dies=chance.randint(2, 8))
    await workers.run(batch, later=61.0 * 8)
    await bench.check(batch)
