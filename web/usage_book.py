"""What this process has counted of usage, and what of it is still to be written down. Pure.

Of each slot (key, day, model) it has one row of its own, which is written again, higher, whenever something was added.
When a compaction has folded that row, what comes then goes into a new one.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

from infra.usage import BASE, DAY_SECONDS, MICROSECONDS, NOTHING, Amounts, Row, Slot, Tariff, day_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

MOST_DAYS_LATE = 3
"""How long it is tried to write down what a day has used: for less long than folded rows stay marked."""


class Counted:
    """A slot of this process; the numbers are of all that it has counted there."""

    __slots__ = (
        "cached", "completion", "cost", "engine", "estimated", "name", "prompt", "requests", "settled", "slot",
        "version", "writer",
    )  # fmt: skip

    def __init__(self, slot: Slot, writer: str) -> None:
        self.slot = slot
        self.writer = writer
        self.name: str | None = None
        self.requests = self.prompt = self.cached = self.completion = self.engine = self.cost = self.estimated = 0
        self.version = 0
        """Of the writer's row, as it was tried to write it last."""
        self.settled = NOTHING
        """What of it is in rows that were folded, of earlier writers."""

    def amounts(self) -> Amounts:
        return Amounts(
            self.requests, self.prompt, self.cached, self.completion, self.engine, self.cost, self.estimated
        )  # fmt: skip


class Entry(NamedTuple):
    """A row to be written. `amounts`: all that was counted then."""

    row: Row
    counted: Counted
    amounts: Amounts


class Book:
    """`process`: a name that no other writer has."""

    def __init__(self, process: str) -> None:
        self._process = process
        self._writers = itertools.count()
        self._counts: dict[tuple[str, str, int], Counted] = {}
        self._unwritten: dict[Counted, None] = {}

    @property
    def unwritten(self) -> int:
        """How many slots have something that is not written down."""
        return len(self._unwritten)

    def add(
        self, account: str, model: str, tariff: Tariff, time: float, *, prompt: int, cached: int, completion: int,
        seconds: float, estimated: bool = False, name: str | None = None,
    ) -> int:  # fmt: skip
        """Count a request that ended at `time` (seconds since the epoch). Returns what it cost."""
        key = (account, model, int(time // DAY_SECONDS))
        count = self._counts.get(key)
        if count is None:
            count = self._counts[key] = Counted(Slot(account, day_of(time), model), self._writer())
        engine = round(seconds * MICROSECONDS)
        cost = tariff.cost(prompt, cached, completion, engine)
        count.requests += 1
        count.prompt += prompt
        count.cached += cached
        count.completion += completion
        count.engine += engine
        count.cost += cost
        count.estimated += estimated
        count.name = name
        self._unwritten[count] = None
        return cost

    def entries(self) -> list[Entry]:
        """What is to be written. No version of a row is given out twice: what was tried and failed may still happen."""
        found = []
        for count in self._unwritten:
            count.version += 1
            amounts = count.amounts()
            row = Row(count.slot, count.writer, amounts.minus(count.settled), count.version, name=count.name)
            found.append(Entry(row, count, amounts))
        return found

    def wrote(self, entries: Sequence[Entry], refused: Mapping[Row, Row | None]) -> None:
        """They are in the table, but for those that were refused because of what was found there."""
        for row, count, amounts in entries:
            if row not in refused:
                if count.requests == amounts.requests:
                    self._unwritten.pop(count, None)
            elif (found := refused[row]) is not None and found.folded:
                count.settled = count.settled.plus(found.amounts)
                count.writer, count.version = self._writer(), 0
                if count.amounts() == count.settled:  # the answer was lost, not the write
                    self._unwritten.pop(count, None)

    def forget(self, now: float, *, late: bool) -> list[Counted]:
        """Forget what is of days before, as far as it is written. `late`: and what is too late to be written, which is
        returned."""
        today = int(now // DAY_SECONDS)
        lost = []
        for key, count in list(self._counts.items()):
            too_late = late and today - key[2] > MOST_DAYS_LATE
            if key[2] < today and (too_late or count not in self._unwritten):
                del self._counts[key]
                if count in self._unwritten:
                    del self._unwritten[count]
                    lost.append(count)
        return lost

    def spent(self, account: str, month: str, rows: Iterable[Row]) -> int:
        """What an account has spent in a month (`2026-11`): by the table's rows of it, and by what this process has
        counted, whether that is in them or not."""
        rows = list(rows)
        bases = {row.slot: row.version for row in rows if row.writer == BASE}
        mine = {
            count.slot: count for count in self._counts.values()
            if count.slot.account == account and count.slot.day.startswith(month)
        }  # fmt: skip
        spent = sum(count.cost - count.settled.cost for count in mine.values())
        for row in rows:
            in_base = 0 < row.folded <= bases.get(row.slot, 0)
            count = mine.get(row.slot)
            if count is None or row.writer != count.writer:
                spent += 0 if in_base else row.amounts.cost
            elif in_base:
                spent -= row.amounts.cost  # which is counted there
        return spent

    def _writer(self) -> str:
        return f"{self._process}.{next(self._writers)}"
