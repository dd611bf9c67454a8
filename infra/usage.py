"""Usage as numbers: what was used, by which key, of which model, on which day; summed, folded and reported. Pure.

Each container keeps rows of its own, which it replaces by higher ones. A finished day's rows are folded into one, the
base, in one transaction that marks them as folded, so whoever adds up what is there counts everything once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from infra.metering import Prices

COST_UNIT = 10**12
"""Costs are whole numbers of the currency's 10^-12."""
MICROSECONDS = 10**6
DAY_SECONDS = 86400
BASE = ""
"""The writer of the row into which others are folded. It comes before all others."""


class Amounts(NamedTuple):
    """What requests have used. A request is one that an engine had."""

    requests: int = 0
    prompt_tokens: int = 0
    """Cached ones included."""
    cached_tokens: int = 0
    completion_tokens: int = 0
    engine_microseconds: int = 0
    cost: int = 0
    """In units of `COST_UNIT`."""
    estimated_requests: int = 0
    """Of the requests, those whose tokens no engine has told: they were broken off."""

    def plus(self, other: Amounts) -> Amounts:
        return Amounts(*map(int.__add__, self, other))

    def minus(self, other: Amounts) -> Amounts:
        return Amounts(*map(int.__sub__, self, other))


NOTHING = Amounts()


class Tariff(NamedTuple):
    """A model's prices in units of `COST_UNIT`: of one token, and of one microsecond of an engine."""

    prompt: int
    cached: int
    completion: int
    engine: int

    @classmethod
    def of(cls, prices: Prices) -> Tariff:
        cached = prices.prompt_tokens if prices.cached_tokens is None else prices.cached_tokens
        # A price is of 10^6 tokens, or of 10^6 microseconds.
        return cls(*(
            int(price * COST_UNIT // MICROSECONDS)
            for price in (prices.prompt_tokens, cached, prices.completion_tokens, prices.engine_seconds)
        ))  # fmt: skip

    def cost(self, prompt: int, cached: int, completion: int, engine: int) -> int:
        """Of so many tokens (of the prompt's, `cached` were cached) and microseconds."""
        return (
            (prompt - cached) * self.prompt + cached * self.cached + completion * self.completion + engine * self.engine
        )


class Slot(NamedTuple):
    """What usage is counted by. `account`: a key's identity, or the one of all who have none; `day`: ISO, UTC."""

    account: str
    day: str
    model: str


@dataclass(frozen=True, slots=True)
class Row:
    """What one writer has counted in a slot. `version`: of two rows of one writer the higher is the later one.
    `folded`: the version of the base that holds this row's amounts; 0: none does. `name`: the key's."""

    slot: Slot
    writer: str
    amounts: Amounts
    version: int
    folded: int = 0
    name: str | None = None


def totals(rows: Iterable[Row]) -> dict[Slot, Amounts]:
    """What was used, of all the rows of some slots. Each slot's base has to have been read before its other rows: then
    one that says that it is folded is in that base, or in a later one that was not read."""
    bases: dict[Slot, int] = {}
    found: dict[Slot, Amounts] = {}
    for row in sorted(rows, key=lambda row: row.writer != BASE):
        if row.writer == BASE:
            bases[row.slot] = row.version
        elif row.folded and row.folded <= bases.get(row.slot, 0):
            continue
        found[row.slot] = found.get(row.slot, NOTHING).plus(row.amounts)
    return found


class Fold(NamedTuple):
    """One step of a compaction: the `base` as it is to be, and the rows it then holds, so marked."""

    base: Row
    folded: list[Row]


def fold(rows: Iterable[Row], *, most: int) -> Fold | None:
    """What of one slot's rows may be folded, at most `most` at once; None: nothing. To be written all or not at all,
    and only while each of these rows has the version, and the mark, that it has here."""
    base = None
    loose = []
    for row in rows:
        if row.writer == BASE:
            base = row
        elif not row.folded:
            loose.append(row)
    if not loose:
        return None
    base = base or Row(loose[0].slot, BASE, NOTHING, version=0)
    version = base.version + 1
    amounts = base.amounts
    for row in (chosen := loose[:most]):
        amounts = amounts.plus(row.amounts)
    return Fold(replace(base, amounts=amounts, version=version), [replace(row, folded=version) for row in chosen])


def day_of(time: float) -> str:
    """The day of a time in seconds since the epoch, UTC."""
    return datetime.fromtimestamp(time, UTC).date().isoformat()


def midnight_after(day: str) -> int:
    """When a day ends, in seconds since the epoch."""
    end = date.fromisoformat(day) + timedelta(days=1)
    return int(datetime(end.year, end.month, end.day, tzinfo=UTC).timestamp())


def money(cost: int) -> str:
    """A cost in the currency, exactly, without an exponent and without zeros at the end."""
    whole, part = divmod(cost, COST_UNIT)
    return f"{whole}.{part:012d}".rstrip("0").rstrip(".")
