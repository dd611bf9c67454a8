"""What it costs that a turn is stored: time to the first token, and calls to AWS.

    python -m tests.benchmarks.state [--turns 100] [--json FILE]

The service (standalone, DynamoDB and S3 by moto in a process of their own) is asked the same question with and
without a session, in turns, so that a noisy machine disturbs both alike; in the same rounds the store itself is asked,
as a turn asks it: one read, one write. Two engines: one whose first token comes at once, and one that takes 50 ms for
it, behind which the writing of the question hides.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import sys
import time
import urllib.request
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.aws import Clients
from infra.provision import Provision
from infra.table import Bucket, Table
from tests.benchmarks.counted_aws import PATH
from tests.benchmarks.processes import running
from tests.ports import free_port
from tests.service.deployment import scripted
from web.clock import RealClock
from web.session_table import SessionsInTable
from web.sessions import Message, Session, SessionKey

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator

ENGINES = {"at once": 0.0, "50 ms": 0.05}
"""Seconds to the first token."""
TURNS_OF_A_SESSION = 10
NAME = "benchmark-state"
TIMEOUT = 60.0


@dataclass(kw_only=True)
class Measured:
    """Of one engine; times in milliseconds. `read`, `write`: the store's own answers."""

    engine: str
    stateless: list[float] = field(default_factory=list)
    stored: list[float] = field(default_factory=list)
    read: list[float] = field(default_factory=list)
    write: list[float] = field(default_factory=list)
    calls_stored: float = 0.0
    """To AWS, for each turn…"""
    calls_stateless: float = 0.0
    """… and for each request without a session."""

    def told(self) -> str:
        stateless, stored = statistics.median(self.stateless), statistics.median(self.stored)
        read, write = statistics.median(self.read), statistics.median(self.write)
        return (
            f"first token {self.engine:>7}: stateless {stateless:6.1f} ms, stored {stored:6.1f} ms "
            f"({stored - stateless:+.1f}); the store answers a read in {read:.1f} ms, a write in {write:.1f} ms; "
            f"calls: {self.calls_stored:.2f} a turn, {self.calls_stateless:.2f} a request without a session"
        )


@dataclass(frozen=True)
class There:
    """The service and its store."""

    url: str
    store: str

    def ask(self, model: str, session: str | None = None) -> float:
        """Milliseconds to the first word of the answer, which is read to its end."""
        body: dict[str, Any] = {"model-name": model, "prompt": "What does a store cost?", "max-token": 8}
        if session is not None:
            body["session-id"] = session
        request = urllib.request.Request(f"{self.url}/chat/completions", data=json.dumps(body).encode())
        began = time.perf_counter()
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            first: float | None = None
            for line in answer:
                if first is None and line.startswith(b"data: "):
                    first = (time.perf_counter() - began) * 1000
        assert first is not None, "no answer"
        return first

    def counted(self) -> int:
        with urllib.request.urlopen(self.store + PATH, timeout=TIMEOUT) as answer:
            return sum(json.load(answer).values())


@contextlib.contextmanager
def service() -> Iterator[tuple[There, Clients]]:
    port, web_port = free_port(), free_port()
    models = [
        scripted(f"first-{n}", "--script", json.dumps({"ttft": seconds, "tokens": 8}), min_containers=1)
        for n, seconds in enumerate(ENGINES.values())
    ]
    store = f"http://127.0.0.1:{port}"
    told = {"endpoint_url": store, "region_name": "us-east-1"}
    keys = {"aws_access_key_id": "emulator", "aws_secret_access_key": "emulator"}
    environment = {
        "AWS_ENDPOINT_URL": store, "AWS_DEFAULT_REGION": "us-east-1",
        **{name.upper(): value for name, value in keys.items()},
        "STATE__KIND": "aws", "STATE__TABLE": NAME, "STATE__BUCKET": NAME, "SERVER_PORT": str(web_port),
        "MODELS__AVAILABLE_MODELS": json.dumps(models), "LIMITS__DEFAULT_RATE_LIMIT_PER_MINUTE": "1000000",
    }  # fmt: skip
    clients = Clients(**told, **keys)
    aws = [sys.executable, "-m", "tests.benchmarks.counted_aws", "--port", str(port)]
    with contextlib.closing(clients), running(aws, port=port, environment={}):
        for step in Provision(clients, table_name=NAME, bucket_name=NAME).steps():
            step.do()
        with running([sys.executable, "-m", "functions.standalone"], port=web_port, environment=environment):
            yield There(f"http://127.0.0.1:{web_port}", store), clients


class Store:
    """The same store, asked from here as a turn asks it: a session's item is read, and a next version written."""

    def __init__(self, clients: Clients) -> None:
        clock = RealClock()
        self._store = SessionsInTable(Table(clients, NAME), Bucket(clients, NAME), clock=clock)
        said = tuple(Message(role=role, content="x" * 30) for role in ("user", "assistant") * TURNS_OF_A_SESSION)
        key, end = SessionKey("public", "of the benchmark itself"), clock.time() + 3600
        self._session = Session(key=key, system="", messages=said, expires_at=end)

    async def begin(self) -> None:
        await self._store.create(self._session, most=1000)

    async def read(self) -> None:
        assert await self._store.load(self._session.key) is not None

    async def write(self) -> None:
        self._session = replace(self._session, version=self._session.version + 1)
        await self._store.save(self._session)


async def timed(work: Awaitable[object]) -> float:
    began = time.perf_counter()
    await work
    return (time.perf_counter() - began) * 1000


async def measure(there: There, clients: Clients, *, turns: int) -> list[Measured]:
    figures = [Measured(engine=engine) for engine in ENGINES]
    store = Store(clients)
    await store.begin()
    for n, one in enumerate(figures):
        model = f"first-{n}"

        async def ask(session: str | None = None, model: str = model) -> float:
            return await asyncio.to_thread(there.ask, model, session)

        for _ in range(5):  # connections, caches
            await ask()
            await ask(f"warm-{n}")
            await store.read()
        for turn in range(turns):
            one.stateless.append(await ask())
            one.stored.append(await ask(f"{n}-{turn // TURNS_OF_A_SESSION}"))
            one.write.append(await timed(store.write()))
            one.read.append(await timed(store.read()))
        before = there.counted()
        for turn in range(turns):
            await ask(f"{n}-{turn // TURNS_OF_A_SESSION}")
        between = there.counted()
        for _ in range(turns):
            await ask()
        one.calls_stored = (between - before) / turns
        one.calls_stateless = (there.counted() - between) / turns
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.state")
    parser.add_argument("--turns", type=int, default=100)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    with service() as (there, clients):
        figures = asyncio.run(measure(there, clients, turns=options.turns))
    for one in figures:
        print(one.told())
    if options.json:
        options.json.write_text(json.dumps([asdict(one) for one in figures], indent=2))


if __name__ == "__main__":
    main()
