"""What is told of usage: rows of some keys, models and days, added up by what was asked for."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from infra.usage import MICROSECONDS, NOTHING, Amounts, money, totals

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from infra.usage import Row

Part = Literal["key", "model", "day", "month"]
"""What usage can be told apart by."""
PARTS: tuple[Part, ...] = ("key", "model", "day", "month")
READS_AT_ONCE = 16


class Reads(Protocol):
    """Where rows are read from: `UsageTable`, or what says the same."""

    async def rows(self, account: str, *, since: str, until: str) -> list[Row]: ...

    async def accounts(self) -> dict[str, str | None]: ...


@dataclass(frozen=True, kw_only=True)
class Line:
    """What was used, of one key, model, day and month, or of all where that is None. `name`: the key's."""

    key: str | None = None
    name: str | None = None
    model: str | None = None
    day: str | None = None
    month: str | None = None
    amounts: Amounts

    @property
    def engine_seconds(self) -> float:
        return self.amounts.engine_microseconds / MICROSECONDS

    @property
    def cost(self) -> str:
        """In the currency, exactly."""
        return money(self.amounts.cost)

    @property
    def place(self) -> str:
        """What no other line of the same report has."""
        return "/".join(part or "" for part in (self.key, self.model, self.day, self.month))


async def read(store: Reads, *, key: str | None, since: str, until: str) -> tuple[list[Row], dict[str, str | None]]:
    """The rows of all accounts, or of those whose identity or name is `key`, from one day to another, both included;
    and the accounts' names. Raises what the store does."""
    names = await store.accounts()
    chosen = [account for account, name in names.items() if key is None or key in (account, name)]
    places = asyncio.Semaphore(READS_AT_ONCE)

    async def one(account: str) -> list[Row]:
        async with places:
            return await store.rows(account, since=since, until=until)

    found = await asyncio.gather(*map(one, chosen))
    return [row for rows in found for row in rows], names


def report(
    rows: Iterable[Row], names: Mapping[str, str | None], *, by: Sequence[Part], model: str | None = None
) -> list[Line]:
    """The lines, sorted by what they are told apart by. `model`: of that one alone."""
    found: dict[tuple[str, ...], Amounts] = {}
    for slot, amounts in totals(rows).items():
        if model is None or slot.model == model:
            parts = {"key": slot.account, "model": slot.model, "day": slot.day, "month": slot.day[:7]}
            place = tuple(parts[part] for part in by)
            found[place] = found.get(place, NOTHING).plus(amounts)
    return [
        _line(dict(zip(by, place, strict=True)), names, amounts) for place, amounts in sorted(found.items())
    ]  # fmt: skip


def total(lines: Iterable[Line]) -> Line:
    amounts = NOTHING
    for line in lines:
        amounts = amounts.plus(line.amounts)
    return Line(amounts=amounts)


def _line(parts: Mapping[Part, str], names: Mapping[str, str | None], amounts: Amounts) -> Line:
    key = parts.get("key")
    return Line(
        key=key, name=None if key is None else names.get(key), model=parts.get("model"), day=parts.get("day"),
        month=parts.get("month"), amounts=amounts,
    )  # fmt: skip
