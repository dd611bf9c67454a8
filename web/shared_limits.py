"""Limits of keys across all containers, by leases in the table: `web.leases` says what is leased, `web.lease_account`
decides, `web.lease_keeper` reads and writes.

Under a lease a request costs no call. A lease is renewed in the background while it is used, and grown when it runs
low, so that requests seldom wait for one. Who asks without a key is counted by each container for itself. So is
everybody while DynamoDB cannot be reached: then a limit holds within each container.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from infra.aws import StateUnavailable
from web.lease_account import LOOK_SECONDS, Account, Moment
from web.lease_keeper import LeaseKeeper, Reach
from web.limits import Budget, MemoryLimiter, Standing, nobody_watches, refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from infra.settings import Limits
    from infra.table import Table
    from web.caller import Caller
    from web.clock import Clock, Timer
    from web.errors import RateLimited
    from web.lease_account import Meter
    from web.limits import Reservation
    from web.windows import Slot

PATIENCE_SECONDS = 3.0
"""How long a request waits for the table, before it is counted within this container."""
LAST_WRITES_SECONDS = 2.0
"""For what is leased to be given back, at the end."""


class SharedLimiter:
    """For one event loop; opens nothing before it is used. An account is forgotten once nothing counts in it: memory
    is bounded by the keys that were used in the last minutes."""

    def __init__(self, table: Table, limits: Limits, clock: Clock, *, patience: float = PATIENCE_SECONDS) -> None:
        """`patience`: seconds that a request waits for the table at most."""
        self._table = table
        self._limits = limits
        self._clock = clock
        self._patience = patience
        self._reach = Reach(clock)
        self._without_key = MemoryLimiter(limits, clock)
        self._keepers: dict[str, LeaseKeeper] = {}
        self._on_decision: Callable[[bool], None] = nobody_watches
        self._holder = ""
        """Not made before it is used: many containers may be made of one memory snapshot."""
        self._timer: Timer | None = None

    async def take(self, caller: Caller) -> None:
        if caller.name is None:
            await self._without_key.take(caller)
            return
        keeper = self._keeper(caller)
        await self._use(keeper, keeper.account.requests, 1)
        self._on_decision(True)

    async def reserve(self, caller: Caller, tokens: int) -> Reservation | None:
        if caller.name is None:
            return await self._without_key.reserve(caller, tokens)
        keeper = self._keeper(caller)
        if (meter := keeper.account.tokens) is None:
            return None
        return _Reserved(self._clock, meter, await self._use(keeper, meter, tokens), tokens)

    def standing(self, caller: Caller) -> Standing:
        if caller.name is None:
            return self._without_key.standing(caller)
        account, now = self._keeper(caller).account, self._now()
        return Standing(_budget(account.requests, now), _budget(account.tokens, now) if account.tokens else None)

    def watch(self, on_decision: Callable[[bool], None]) -> None:
        self._on_decision = on_decision
        self._without_key.watch(on_decision)

    async def close(self) -> None:
        """Give back what is leased and was not used, as far as there is time."""
        if self._timer is not None:
            self._timer.cancel()
        leases = [keeper for keeper in self._keepers.values() if keeper.account.until > self._clock.time()]
        if leases and not self._reach.lost:
            with contextlib.suppress(TimeoutError):
                async with self._clock.timeout(LAST_WRITES_SECONDS):
                    await asyncio.gather(*(keeper.leave() for keeper in leases))
        for keeper in self._keepers.values():
            keeper.stop()

    @property
    def accounts(self) -> int:
        """How many are kept now."""
        return len(self._keepers)

    def _keeper(self, caller: Caller) -> LeaseKeeper:
        requests = caller.requests_per_minute or self._limits.default_rate_limit_per_minute
        tokens = caller.tokens_per_minute or self._limits.default_tokens_per_minute
        if (keeper := self._keepers.get(caller.identity)) is not None:
            if keeper.account.limits != (requests, tokens):
                keeper.account.set_limits(requests, tokens)
            return keeper
        self._holder = self._holder or secrets.token_hex(8)
        account = Account(caller.identity, self._holder, requests, tokens)
        keeper = LeaseKeeper(account, self._table, self._clock, self._reach)
        if not self._keepers:
            self._timer = self._clock.call_later(LOOK_SECONDS, self._look_around)
        self._keepers[caller.identity] = keeper
        return keeper

    async def _use(self, keeper: LeaseKeeper, meter: Meter, amount: int) -> Slot:
        """Raises RateLimited."""
        account, now = keeper.account, self._now()
        if account.fits(meter, amount, now):
            account.used_at = now.steady
            slot = meter.use(amount, now.steady)
            if account.running_out(meter, now) and not self._reach.lost:
                keeper.fly("renew")
        else:
            slot = await self._use_more(keeper, meter, amount, now)
        return slot

    async def _use_more(self, keeper: LeaseKeeper, meter: Meter, amount: int, now: Moment) -> Slot:
        """What the lease has no room for. Raises RateLimited."""
        account = keeper.account
        if amount > meter.limit:
            raise self._refusal(meter, amount, math.inf)
        if self._reach.lost:
            if self._reach.should_retry():
                keeper.fly("renew")
            return self._use_alone(account, meter, amount, now)
        if account.blocked(meter, amount, now):
            if now.steady >= account.renew_at:
                keeper.fly("renew")
            raise self._refusal(meter, amount, meter.wait(amount, now))
        try:
            async with self._clock.timeout(self._patience):
                slot = await keeper.obtain(meter, amount)
        except TimeoutError:
            self._reach.fails(f"the table has not answered for {self._patience:g} s")
            return self._use_alone(account, meter, amount, self._now())
        except StateUnavailable:
            return self._use_alone(account, meter, amount, self._now())
        if slot is None:
            raise self._refusal(meter, amount, meter.wait(amount, self._now()))
        return slot

    def _use_alone(self, account: Account, meter: Meter, amount: int, now: Moment) -> Slot:
        """Within the limit, as far as this container knows. Raises RateLimited."""
        if wait := meter.wait_alone(amount, now.steady):
            raise self._refusal(meter, amount, wait)
        account.used_at = now.steady
        return meter.use(amount, now.steady)

    def _refusal(self, meter: Meter, amount: int, wait: float) -> RateLimited:
        self._on_decision(False)
        return refusal(meter.kind, meter.limit, wait, requested=amount)

    def _look_around(self) -> None:
        """Leases that nobody uses are given back, accounts in which nothing counts forgotten."""
        now = self._now()
        for identity, keeper in list(self._keepers.items()):
            if not keeper.idle:
                continue
            if keeper.account.is_over(now):
                del self._keepers[identity]
            elif keeper.account.should_tell(now) and not self._reach.lost:
                keeper.fly("leave")
        self._timer = self._clock.call_later(LOOK_SECONDS, self._look_around) if self._keepers else None

    def _now(self) -> Moment:
        return Moment(self._clock.monotonic(), self._clock.time())


@dataclass(slots=True)
class _Reserved:
    clock: Clock
    meter: Meter
    slot: Slot
    tokens: int

    def settle(self, tokens: int) -> None:
        self.meter.settle(self.slot, self.tokens, tokens, self.clock.monotonic())


def _budget(meter: Meter, now: Moment) -> Budget:
    return Budget(meter.limit, meter.remaining(now), meter.reset(now))
