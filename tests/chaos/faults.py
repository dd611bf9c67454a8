"""What is to befall which call to AWS, and which calls are to be held up. Pure, but for who waits.

A call that is not answered as it should be is `refused` (an error of the service itself, in its own words: see
`emulator.faults.aws`) or meets a network that fails:

    reset   the connection breaks; nothing was carried out
    lost    it was carried out, and the connection breaks before the answer
    cut     it was carried out, and the connection breaks in the middle of the answer
    silent  nothing was carried out, and no answer comes until the caller gives up
    late    it was carried out, and no answer comes until the caller gives up

A transaction may be cancelled, too, for what no condition said: `conflict` and `throttled`.
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from emulator.faults.aws import ERRORS

if TYPE_CHECKING:
    from collections.abc import Callable

NETWORK = ("reset", "lost", "cut", "silent", "late")
CANCELED = {"conflict": "TransactionConflict", "throttled": "ThrottlingError"}
"""The reasons. "Error handling for writing", TransactWriteItems in the API reference."""
CARRIED_OUT = ("lost", "cut", "late")
"""Of those the ones after which the write is there."""
PATIENCE = 20.0
"""Seconds that a test waits for what must come."""


@dataclass(frozen=True)
class Call:
    """One request to AWS. `operation`: e.g. `PutItem`. `path`: of S3's."""

    service: str
    operation: str
    path: str
    body: bytes

    def json(self) -> Any:
        """Of DynamoDB's."""
        return json.loads(self.body)


def anything(_: Call) -> bool:
    return True


@dataclass(eq=False, kw_only=True)
class Fault:
    """Befalls calls of `operation` (empty: any) of `service` for which `when` holds: after `skip` of them the next
    `times` (None: all), or a `share` of them, drawn from `seed`."""

    how: str
    service: str = "dynamodb"
    operation: str = ""
    skip: int = 0
    times: int | None = 1
    share: float = 1.0
    seed: int = 0
    when: Callable[[Call], bool] = anything
    struck: int = 0
    _chance: random.Random = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.how not in (*NETWORK, *CANCELED, *ERRORS[self.service]):
            raise ValueError(f"{self.how!r} is no fault of {self.service}")
        self._chance = random.Random(self.seed)

    def strikes(self, call: Call) -> bool:
        """Whether it befalls this call; then it has."""
        if not concerns(self, call) or (self.times is not None and self.struck >= self.times):
            return False
        if self.skip:
            self.skip -= 1
            return False
        chosen = self._chance.random() < self.share
        self.struck += chosen
        return chosen


@dataclass(eq=False, kw_only=True)
class Hold:
    """Holds up the first call that it concerns, before it is carried out or `after` that: `reached` is set then, and
    the call goes on when it is let go. For the proxy's loop and the test's thread."""

    loop: asyncio.AbstractEventLoop
    service: str = "dynamodb"
    operation: str = ""
    after: bool = False
    when: Callable[[Call], bool] = anything
    reached: threading.Event = field(default_factory=threading.Event)
    dropped: bool = False
    _free: asyncio.Event = field(default_factory=asyncio.Event)

    async def here(self, call: Call, *, after: bool) -> None:
        """Of the proxy: wait, where this is the call."""
        if after == self.after and concerns(self, call) and not self.reached.is_set():
            self.reached.set()
            await self._free.wait()

    def wait(self) -> None:
        """Return when the call is there."""
        assert self.reached.wait(PATIENCE), f"no call of {self.operation or 'any operation'} came"

    def let_go(self) -> None:
        self.loop.call_soon_threadsafe(self._free.set)

    def drop(self) -> None:
        """The call goes no further: it is never carried out, or never answered."""
        self.dropped = True
        self.let_go()


def concerns(one: Fault | Hold, call: Call) -> bool:
    return call.service == one.service and one.operation in ("", call.operation) and one.when(call)
