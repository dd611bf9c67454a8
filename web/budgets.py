"""What keys have spent this month, and whether that is all that they may.

What is known is the store's sum, read anew every few seconds while the key is used, and what this process has counted
since. So a check waits for nothing, but for a key that was not used here for a while.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from infra.aws import StateUnavailable
from infra.usage import COST_UNIT, DAY_SECONDS, day_of
from web.usage_errors import BudgetExhausted

if TYPE_CHECKING:
    from collections.abc import Callable

    from infra.usage import Row
    from web.clock import Clock
    from web.usage import UsageStore

log = logging.getLogger(__name__)

REFRESH_SECONDS = 10.0
"""How old a sum may be before it is read anew, while requests go on."""
STALE_SECONDS = 30.0
"""How old it may be before a request waits for that."""
WAIT_SECONDS = 2.0
"""How long it waits at most; then what is known has to do."""


class _Known:
    """Of one account. Times are on the clock's monotonic scale."""

    __slots__ = ("asked_at", "budget", "failing", "limit", "read_at", "reading", "spent")

    def __init__(self) -> None:
        self.spent = 0
        """This month, in units of COST_UNIT."""
        self.read_at = self.asked_at = -math.inf
        self.reading: asyncio.Task[None] | None = None
        self.failing = False
        self.budget = self.limit = 0.0


class Budgets:
    """Belongs to one event loop. `spent`: of an account, a month (`2026-11`) and all the store's rows of it, what it
    has spent, with what only this process knows of."""

    def __init__(
        self, store: UsageStore, clock: Clock, *, currency: str, spent: Callable[[str, str, list[Row]], int]
    ) -> None:
        self._store = store
        self._clock = clock
        self._currency = currency
        self._spent = spent
        self._day = -1
        self._month = ""
        self._accounts: dict[str, _Known] = {}

    async def check(self, account: str, budget: float) -> None:
        """Raise BudgetExhausted when the account has spent `budget` this month, or more."""
        known = await self._look(account)
        if known.budget != budget:
            known.budget, known.limit = budget, limit_of(budget)
        if known.spent >= known.limit:
            raise BudgetExhausted(budget, self._currency, renewed=_next_month(self._month))

    async def spent(self, account: str) -> int:
        """What it has spent this month, as far as is known here."""
        return (await self._look(account)).spent

    def used(self, account: str, cost: int, time: float) -> None:
        """This process has counted so much more at `time` (seconds since the epoch)."""
        self._turn(time)
        if (known := self._accounts.get(account)) is not None:
            known.spent += cost

    async def close(self) -> None:
        readings = [known.reading for known in self._accounts.values() if known.reading is not None]
        for reading in readings:
            reading.cancel()
        if readings:
            await asyncio.wait(readings)

    async def _look(self, account: str) -> _Known:
        self._turn(self._clock.time())
        known = self._accounts.get(account)
        if known is None:
            known = self._accounts[account] = _Known()
        now = self._clock.monotonic()
        if now - known.read_at > REFRESH_SECONDS:
            if known.reading is None and now - known.asked_at > REFRESH_SECONDS:
                known.asked_at = now
                known.reading = asyncio.create_task(self._read(account, known, self._month), name="budget")
            left = known.asked_at + WAIT_SECONDS - now
            if now - known.read_at > STALE_SECONDS and not known.failing and known.reading is not None and left > 0:
                with contextlib.suppress(TimeoutError):
                    async with self._clock.timeout(left):
                        await asyncio.shield(known.reading)
        return known

    async def _read(self, account: str, known: _Known, month: str) -> None:
        try:
            rows = await self._store.rows(account, since=f"{month}-01", until=f"{month}-31")
        except StateUnavailable as error:
            if not known.failing:
                log.error("what a key has spent cannot be read now, and its budget goes by what is known: %s", error)
            known.failing = True
        else:
            known.failing = False
            known.read_at = known.asked_at
            known.spent = self._spent(account, month, rows)
        finally:
            known.reading = None

    def _turn(self, time: float) -> None:
        """Forget what was spent in a month that is over."""
        day = int(time // DAY_SECONDS)
        if day != self._day:
            self._day = day
            month = day_of(time)[:7]
            if month != self._month:
                self._month, self._accounts = month, {}


def limit_of(budget: float) -> int:
    """A budget in units of COST_UNIT: of the number as it was written."""
    return int(Decimal(repr(budget)) * COST_UNIT)


def _next_month(month: str) -> str:
    """The first day of the month that follows."""
    return (date.fromisoformat(f"{month}-01") + timedelta(days=31)).replace(day=1).isoformat()
