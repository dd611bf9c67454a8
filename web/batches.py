"""The domain of batches: requests in a file, answered while nobody waits, and what a store of them must do.

A batch is worked on by one worker at a time, who has a lease and writes under the condition that nobody else has
written since. Answers lie in numbered parts in the bucket; the batch's record says which lines they hold and which
parts count, so that a worker that dies loses at most answers that no record tells of: those lines are asked again.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

from web.caller import Caller

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from web.batch_worker import BatchWorker
    from web.files import FileStore
    from web.objects import ObjectKeeper

Status = Literal[
    "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
]  # fmt: skip
UNFINISHED: frozenset[Status] = frozenset({"validating", "in_progress", "finalizing", "cancelling"})
WINDOW_SECONDS = 86400.0
"""The completion window: the only one that OpenAI has."""
LEASE_SECONDS = 60.0
"""How long a worker keeps its batch without a sign of life."""
START_SECONDS = 120.0
"""How long a worker that was called may take to come; then another one is called."""
MOST_TRIES = 10
"""Workers that may die one after the other, without anything being kept, before it is the batch that is suspected."""


class BatchConflict(Exception):
    """The batch is not what it was when it was read."""


@dataclass(frozen=True, kw_only=True)
class BatchError:
    """Why a batch failed. `line`: of the input file, from 1 on."""

    code: str
    message: str
    param: str | None = None
    line: int | None = None


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """What all answers together have cost."""

    input: int = 0
    cached: int = 0
    output: int = 0
    reasoning: int = 0

    def plus(self, other: Tokens) -> Tokens:
        return Tokens(
            input=self.input + other.input, cached=self.cached + other.cached, output=self.output + other.output,
            reasoning=self.reasoning + other.reasoning,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A batch as it was at one `version`; every change makes the next one. Times are seconds since the epoch."""

    owner: str
    id: str
    endpoint: str
    input_file_id: str
    caller: Mapping[str, Any]
    """In whose name its lines are asked (`kept_caller`); beside that, the `cause`."""
    created_at: float
    expires_at: float
    metadata: Mapping[str, str] | None = None
    output_seconds: float | None = None
    """How long its files are kept; None: as long as is usual."""
    status: Status = "validating"
    times: Mapping[str, float] = field(default_factory=dict)
    """When it became what (`in_progress_at`, …)."""
    model: str | None = None
    errors: tuple[BatchError, ...] = ()
    expired: bool = False
    """Whether the window has closed before lines that are done."""
    total: int = 0
    """Lines, known once they were checked; likewise `model`."""
    completed: int = 0
    failed: int = 0
    tokens: Tokens = Tokens()
    output_file_id: str | None = None
    error_file_id: str | None = None
    version: int = 1
    leased_until: float = 0.0
    """Until then the last of `workers` works on it, or one that was `called` is to come."""
    called: bool = True
    """Whether a worker was called, and none has come since."""
    mark: str = field(default_factory=lambda: secrets.token_hex(8))
    """Random, of this version: by it a writer knows its own again."""
    workers: tuple[tuple[str, int], ...] = ()
    """Who worked on it, by their random names, and each one's first part."""
    parts: int = 0
    """How many count; each was written by the last worker whose first part is not behind it."""
    done: bytes = b""
    """Which lines these hold: line n is bit n % 8 of byte n // 8."""
    tries: int = 0
    """Workers that have begun since something was kept last."""
    swept: bool = False
    """Whether nothing but its record and its files is left."""

    @property
    def unfinished(self) -> bool:
        return self.status in UNFINISHED

    @property
    def worker(self) -> str:
        return self.workers[-1][0] if self.workers else ""

    @property
    def cause(self) -> str | None:
        """The `traceparent` of the request that made it, where that was traced. Kept where versions of the service that
        do not know it pass it over."""
        cause: str | None = self.caller.get("traceparent")
        return cause

    def became(self, status: Status, now: float, **more: Any) -> Batch:
        """The next version but for its number, which whoever saves it counts."""
        return replace(self, status=status, times={**self.times, f"{status}_at": now}, **more)

    def is_done(self, line: int) -> bool:
        return line // 8 < len(self.done) and bool(self.done[line // 8] & (1 << line % 8))

    def with_done(self, lines: Iterable[int]) -> bytes:
        """`done`, with these lines."""
        bits = bytearray(self.done.ljust((self.total + 7) // 8, b"\0"))
        for line in lines:
            bits[line // 8] |= 1 << line % 8
        return bytes(bits)

    # Where its objects lie.

    @property
    def input_at(self) -> str:
        """Its own copy of the input, since the file may be deleted."""
        return f"batches/{self.id}/input"

    def part_at(self, worker: str, number: int) -> str:
        return f"batches/{self.id}/{number:06d}-{worker}"

    def parts_at(self) -> list[str]:
        """The parts that count, in order."""
        ends = [first for _, first in self.workers[1:]] + [self.parts]
        spans = zip(self.workers, ends, strict=False)
        return [self.part_at(name, n) for (name, first), end in spans for n in range(first, end)]

    def litter(self) -> list[str]:
        """All objects that there can be, its files apart: each worker may have written one more than counts."""
        ends = [first for _, first in self.workers[1:]] + [self.parts]
        spans = zip(self.workers, ends, strict=False)
        parts = [self.part_at(name, n) for (name, first), end in spans for n in range(first, end + 1)]
        return [self.input_at, *parts]


class BatchStore(Protocol):
    """Every method may raise StateUnavailable."""

    async def create(self, batch: Batch, *, most: int) -> None:
        """Raises TooManyBatches when its owner has `most` unfinished ones already."""

    async def load(self, owner: str, batch_id: str) -> Batch | None: ...

    async def save(self, batch: Batch) -> None:
        """Put it in the place of the version before. Raises BatchConflict when that is not what is kept."""

    async def end(self, batch: Batch) -> None:
        """The same, for one that is unfinished no more, and was before."""

    async def listed(self, owner: str, *, after: str | None, limit: int) -> Sequence[Batch]:
        """The newest first, from behind `after` on."""

    async def due(self, *, before: float, limit: int) -> Sequence[Batch]:
        """Those that nobody works on, though there is something to do: unfinished ones, and those to be swept."""


class BatchRunner(Protocol):
    def take(self, worker: BatchWorker) -> None:
        """The application's own worker, for who has batches worked on in its process. Called once, before all else."""

    async def start(self, batch: Batch) -> None:
        """Have a worker work on it, soon and somewhere. Raises whatever it likes: the batch is found again by its
        lease."""

    def nudge(self, batch: Batch) -> None:
        """It has changed: a worker that can hear it may look at it at once. Others do so in time."""


@dataclass(frozen=True, kw_only=True)
class Storage:
    """Where files and batches are kept. `runner`: what works on batches; None: the application itself does."""

    files: FileStore
    batches: BatchStore
    objects: ObjectKeeper
    runner: BatchRunner | None = None


def kept_caller(caller: Caller, *, traceparent: str | None = None) -> dict[str, Any]:
    """A caller as JSON can hold it; with the `Batch.cause`."""
    told = {one.name: getattr(caller, one.name) for one in fields(caller)}
    kept = {name: sorted(value) if isinstance(value, frozenset) else value for name, value in told.items()}
    return kept if traceparent is None else {**kept, "traceparent": traceparent}


def caller_again(kept: Mapping[str, Any]) -> Caller:
    """The caller that was kept, whose requests are not held to the limits of a minute: a batch takes its time."""
    known = {one.name for one in fields(Caller)}
    told: dict[str, Any] = {name: value for name, value in kept.items() if name in known}
    told = {name: frozenset(value) if isinstance(value, list) else value for name, value in told.items()}
    return replace(Caller(**told), counted=True, unhurried=True)
