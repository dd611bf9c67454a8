"""The metrics of containers that come and go, as rows that are added up and folded. Pure.

Every container has a row, which it writes again, higher, on a timer and when it ends. What is left of containers that
are gone becomes part of one row, the base, in steps of which each is one conditional write, so that whoever is
interrupted at any step leaves the sum as it was, and any number may do it at once:

1. a row whose container is gone is *sealed*: it cannot change any more;
2. sealed rows are added to the base, which names their writers: whoever adds up leaves those rows out from then on;
3. after a while, in which those who had read the base before have read the rows too, the rows are removed.

A container that was taken for dead and is not finds its row sealed, and goes on in a new one with what is not in that.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from infra.metric_snapshots import total, without_gauges

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from infra.metric_snapshots import Snapshot

ENDED_SECONDS = 60.0
"""How long the last row of a container that has ended is left alone: a write of it may still be on its way."""
LOST_SECONDS = 600.0
"""After so long without a word, at least, a container is taken for dead."""
LOST_INTERVALS = 20
MISSED_INTERVALS = 3
"""After so many intervals without a word a container's gauges count no more…"""
MISSED_SECONDS = 10.0
"""… and so many seconds."""
REMOVE_SECONDS = 300.0
"""After which a row that is in the base is removed: nobody's reading takes that long."""
MOST_FOLDED = 500
"""Rows in one step."""


@dataclass(frozen=True)
class Row:
    """What one container has counted. `version`: of two rows of one writer the higher is the later one. `written_at`:
    seconds since the epoch; `interval`: seconds, in which the next is to be expected; `ended`: there will be none."""

    writer: str
    version: int
    snapshot: Snapshot
    written_at: float
    interval: float
    ended: bool = False
    sealed: bool = False

    def alive(self, now: float) -> bool:
        """Whether its gauges count."""
        silent = now - self.written_at
        return not (self.ended or self.sealed) and silent <= MISSED_INTERVALS * self.interval + MISSED_SECONDS

    def gone(self, now: float) -> bool:
        """Whether nothing more is expected of it."""
        silent = now - self.written_at
        return silent > (ENDED_SECONDS if self.ended else max(LOST_SECONDS, LOST_INTERVALS * self.interval))


@dataclass(frozen=True)
class Base:
    """What those containers have counted that are gone. `folded`: the writers whose rows are in it and may still be
    there, and when they came into it."""

    version: int = 0
    snapshot: Snapshot = field(default_factory=dict)
    folded: Mapping[str, float] = field(default_factory=dict)


class Reading(NamedTuple):
    """All that there is: the base as it was read first, then the rows."""

    base: Base
    rows: Sequence[Row]

    def total(self, now: float) -> Snapshot:
        """The sum over all containers that there ever were; gauges of those that are alive."""
        loose = [row for row in self.rows if row.writer not in self.base.folded]
        parts = [row.snapshot if row.alive(now) else without_gauges(row.snapshot) for row in loose]
        return total([self.base.snapshot, *parts])

    def to_seal(self, now: float) -> list[Row]:
        return [row for row in self.rows if not row.sealed and row.gone(now)]

    def to_remove(self, now: float) -> list[Row]:
        folded = self.base.folded
        return [row for row in self.rows if row.writer in folded and now - folded[row.writer] > REMOVE_SECONDS]

    def fold(self, sealed: Sequence[Row], now: float) -> Base | None:
        """The base with sealed rows in it that were not before; None: there are no such. To be written only in the
        place of the base that was read here."""
        fresh = [row for row in sealed if row.writer not in self.base.folded][:MOST_FOLDED]
        if not fresh:
            return None
        there = {row.writer for row in self.rows}
        still = {writer: at for writer, at in self.base.folded.items() if writer in there}
        snapshot = total([self.base.snapshot, *(without_gauges(row.snapshot) for row in fresh)])
        return Base(self.base.version + 1, snapshot, {**still, **dict.fromkeys((row.writer for row in fresh), now)})
