"""Who has used what: counted as requests end, written down every few seconds, read by reports and for budgets.

A request costs no call: it is counted in this process's `Book`, whose rows go to the store on a timer and at the end. A
process that is killed loses what it counted since. While the store cannot be reached, counting goes on.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from typing import TYPE_CHECKING, Protocol

from infra.aws import StateUnavailable
from infra.usage import DAY_SECONDS, Tariff, day_of
from web.budgets import Budgets
from web.record import apart
from web.usage_book import Book

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from infra.settings import Settings
    from infra.usage import Row
    from web.caller import Caller
    from web.clock import Clock, Timer
    from web.passage import Used
    from web.services import Services

log = logging.getLogger(__name__)

ANONYMOUS = "anonymous"
"""The account of all who have no key."""
LAST_TRIES = 3
"""To write down the rest when the process ends."""


class UsageStore(Protocol):
    """Rows of usage, as `infra.usage` has them; `infra.usage_table` says the same of DynamoDB. Every method may raise
    StateUnavailable."""

    async def write(self, rows: Sequence[Row]) -> dict[Row, Row | None]:
        """Put rows in the place of their earlier versions. Returns those that were refused, with what is there."""

    async def rows(self, account: str, *, since: str, until: str) -> list[Row]:
        """All rows of an account, from one day to another, both included; each slot's base before its others."""

    async def accounts(self) -> dict[str, str | None]:
        """Who there is usage of, and the name of the key."""


class UsageInMemory:
    """Of this process, and gone with it."""

    def __init__(self, *, keep_days: int, clock: Clock) -> None:
        self._keep_seconds = keep_days * DAY_SECONDS
        self._clock = clock
        self._rows: dict[str, dict[tuple[str, str, str], Row]] = {}
        self._names: dict[str, str | None] = {}

    async def write(self, rows: Sequence[Row]) -> dict[Row, Row | None]:
        for row in rows:
            self._names[row.slot.account] = row.name
            mine = self._rows.setdefault(row.slot.account, {})
            mine[row.slot.day, row.slot.model, row.writer] = row
        self._forget(day_of(self._clock.time() - self._keep_seconds))
        return {}

    async def rows(self, account: str, *, since: str, until: str) -> list[Row]:
        return [row for row in self._rows.get(account, {}).values() if since <= row.slot.day <= until]

    async def accounts(self) -> dict[str, str | None]:
        return dict(self._names)

    def _forget(self, oldest: str) -> None:
        for account, mine in list(self._rows.items()):
            for key in [key for key in mine if key[0] < oldest]:
                del mine[key]
            if not mine:
                del self._rows[account], self._names[account]


class Meter:
    """Belongs to one event loop once it counts; made without one, so that a memory snapshot may hold it."""

    def __init__(self, store: UsageStore, settings: Settings, clock: Clock, *, timed: bool = True) -> None:
        """`timed`: write every few seconds, as a store wants that outlives this process; else before it is read."""
        self.store = store
        self._clock = clock
        self._pause = settings.usage.flush_seconds
        self._timed = timed
        self._tariffs = {model.id: Tariff.of(model.prices) for model in settings.models.available_models}
        self._book: Book | None = None
        """Of this process. No name may be made up before a snapshot."""
        self._budgets = Budgets(
            store, clock, currency=settings.usage.currency, spent=lambda *about: self._open().spent(*about)
        )
        self._timer: Timer | None = None
        self._writing: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()
        self._failing = False
        self._on_charge: Callable[[str, int, float], None] | None = None

    @classmethod
    def of(cls, services: Services) -> Meter:
        """One over the services' store, or over memory."""
        settings, clock = services.settings, services.clock
        if services.usage is not None:
            return cls(services.usage, settings, clock)
        return cls(UsageInMemory(keep_days=settings.usage.keep_days, clock=clock), settings, clock, timed=False)

    def watch(self, on_charge: Callable[[str, int, float], None]) -> None:
        """Tell it of each request from now on: the model's id, what it cost (in units of `COST_UNIT`), and for how many
        seconds an engine had it."""
        self._on_charge = on_charge

    def charge(self, caller: Caller, model: str, prompt: Callable[[], int], used: Used) -> None:
        """A request has ended that an engine of `model` (its id) had. `prompt`: about how many tokens that had, should
        the engine not have told. Waits for nothing."""
        usage = used.usage
        if usage is None:
            self.record(caller, model, prompt=prompt(), cached=0, completion=used.pieces, seconds=used.seconds,
                        estimated=True)  # fmt: skip
        else:
            self.record(caller, model, prompt=usage.prompt, cached=usage.cached,
                        completion=usage.completion or used.pieces, seconds=used.seconds)  # fmt: skip

    def record(
        self, caller: Caller, model: str, *, prompt: int, cached: int, completion: int, seconds: float,
        estimated: bool = False,
    ) -> None:  # fmt: skip
        """The same, in numbers: tokens (`estimated`: no engine has told them), and seconds of the engine."""
        account, time = account_of(caller), self._clock.time()
        cost = (self._book or self._open()).add(
            account, model, self._tariffs[model], time, prompt=prompt, cached=cached, completion=completion,
            seconds=seconds, estimated=estimated, name=caller.name,
        )  # fmt: skip
        if self._on_charge is not None:
            self._on_charge(model, cost, seconds)
        if cost and caller.monthly_budget is not None:
            self._budgets.used(account, cost, time)
        if self._timer is None and self._timed:
            self._timer = self._clock.call_later(self._pause, self._due)

    async def check(self, caller: Caller) -> None:
        """Raise BudgetExhausted when the caller has spent this month's budget, as far as is known here. Waits for the
        store only when it has not been heard for long, and not for long."""
        if caller.monthly_budget is not None:
            await self._budgets.check(account_of(caller), caller.monthly_budget)

    async def spent(self, caller: Caller) -> int:
        """What the caller has spent this month, as far as is known here, in units of `COST_UNIT`."""
        return await self._budgets.spent(account_of(caller))

    async def flush(self) -> bool:
        """Write down what was counted. Whether all of it is. Never raises StateUnavailable."""
        if self._book is None:
            return True
        async with self._lock:
            for lost in self._book.forget(self._clock.time(), late=self._timed):
                log.error("usage is lost, since it could not be written for days: %s %s", lost.slot, lost.amounts())
            entries = self._book.entries()
            if not entries:
                return True
            try:
                refused = await self.store.write([entry.row for entry in entries])
            except StateUnavailable as error:
                if not self._failing:
                    log.error("usage cannot be written now, and is kept here meanwhile: %s", error)
                self._failing = True
                return False
            self._book.wrote(entries, refused)
            if self._failing:
                log.warning("usage is written again")
            self._failing = False
            return not self._book.unwritten

    async def close(self) -> None:
        """Write down the rest, as far as that is possible now."""
        if self._timer is not None:
            self._timer.cancel()
        for _ in range(LAST_TRIES):
            if await self.flush() or self._failing:
                break
        if self._book is not None and self._book.unwritten:
            log.error("the usage of %d keys and models since the last writing is lost", self._book.unwritten)
        await self._budgets.close()

    def _open(self) -> Book:
        if self._book is None:
            self._book = Book(secrets.token_hex(6))
        return self._book

    def _due(self) -> None:
        self._timer = None
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write(), name="usage", context=apart())

    async def _write(self) -> None:
        if not await self.flush() and self._timer is None:
            self._timer = self._clock.call_later(self._pause, self._due)


def account_of(caller: Caller) -> str:
    """What a caller's usage is counted by."""
    return caller.identity if caller.identity.startswith("key:") else ANONYMOUS
