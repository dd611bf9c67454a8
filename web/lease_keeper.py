"""Keeps one caller's lease in the table: what `web.lease_account` decides, done."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from infra.aws import ConditionFailed, StateUnavailable
from web.lease_account import LOOK_SECONDS, RENEW_SECONDS, Meter, Moment
from web.leases import item_key, to_ledger, to_update

if TYPE_CHECKING:
    from collections.abc import Iterable

    from infra.table import Item, Table
    from web.clock import Clock
    from web.lease_account import Account, Draft, Needs
    from web.limits import Kind
    from web.windows import Slot

log = logging.getLogger(__name__)

RETRY_SECONDS = 5.0
"""How often the table is tried while it cannot be reached."""
CONFLICTS = 16
"""How often a write is tried that comes in the way of other containers'."""
PAUSE_SECONDS = 0.02
"""Before the third try; before the next twice as long, and so on. A random part of it each time."""
LONGEST_PAUSE_SECONDS = 0.5

Purpose = Literal["serve", "renew", "leave"]
"""Of a flight: those who wait are served in any case."""


class Reach:
    """Whether the table can be reached: of all callers' leases together, so that the log is told once."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._random = random.SystemRandom()  # containers made of one snapshot would all draw the same
        self._retry_at = 0.0
        self.lost = False

    def fails(self, why: object) -> None:
        self._retry_at = self._clock.monotonic() + RETRY_SECONDS
        if not self.lost:
            self.lost = True
            log.warning("limits cannot be shared, each container keeps them for itself meanwhile: %s", why)

    def works(self) -> None:
        if self.lost:
            self.lost = False
            log.info("limits are shared again")

    def should_retry(self) -> bool:
        """True once, when it is time to."""
        now = self._clock.monotonic()
        if now < self._retry_at:
            return False
        self._retry_at = now + RETRY_SECONDS
        return True

    def draw(self, low: float, high: float) -> float:
        return self._random.uniform(low, high)


@dataclass(slots=True, eq=False)
class _Waiting:
    meter: Meter
    amount: int
    answer: asyncio.Future[Slot | None]
    """None: there is nothing to be had."""


class LeaseKeeper:
    """For one account. Reads and writes its item in one task at a time, its flight."""

    def __init__(self, account: Account, table: Table, clock: Clock, reach: Reach) -> None:
        self.account = account
        self._table = table
        self._clock = clock
        self._reach = reach
        self._waiting: list[_Waiting] = []
        self._flight: asyncio.Task[None] | None = None

    @property
    def idle(self) -> bool:
        return self._flight is None

    async def obtain(self, meter: Meter, amount: int) -> Slot | None:
        """Have so much more leased, and use it; None: there is nothing to be had. Raises StateUnavailable."""
        waiting = _Waiting(meter, amount, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self.fly("serve")
        try:
            return await waiting.answer
        except asyncio.CancelledError:
            answer = waiting.answer
            if answer.done() and not answer.cancelled() and not answer.exception() and (slot := answer.result()):
                meter.settle(slot, amount, 0, self._clock.monotonic())  # nobody is there to use it
            raise
        finally:
            if waiting in self._waiting:
                self._waiting.remove(waiting)

    def fly(self, purpose: Purpose) -> None:
        """In the background, unless it is being done."""
        if self._flight is None:
            self._flight = asyncio.create_task(self._fly(purpose))

    async def leave(self) -> None:
        """Tell what was used, and lease nothing any more. Returns once that is done, or cannot be."""
        if self._flight is not None:
            await asyncio.wait((self._flight,))
        self.fly("leave")
        if self._flight is not None:
            await asyncio.wait((self._flight,))

    def stop(self) -> None:
        """Whatever is under way."""
        if self._flight is not None:
            self._flight.cancel()

    async def _fly(self, purpose: Purpose) -> None:
        try:
            await self._work(purpose)
        except StateUnavailable as error:
            self._reach.fails(error)
            self._answer(self._waiting, error)
        except Exception as error:
            log.exception("a lease could not be kept")
            self._answer(self._waiting, error)
        else:
            self._reach.works()
        finally:
            self._flight = None

    async def _work(self, purpose: Purpose) -> None:
        conflicts = 0
        while purpose != "serve" or self._waiting:
            waiting = tuple(self._waiting)
            step = self.account.step(_needs(waiting), self._now(), due=purpose != "serve")
            if step == "look":
                await self._look()
            elif step == "rest":
                self._answer(waiting, None)
            elif await self._write(self._draft(waiting, purpose)):
                purpose = "serve"
                self._serve(waiting)
            else:
                conflicts += 1
                if conflicts == CONFLICTS:  # the table is there, so the limit has to hold
                    log.warning("a lease could not be written: %d times another container was first", conflicts)
                    self._answer(self._waiting, None)
                    return
                await self._pause(conflicts)

    def _draft(self, waiting: tuple[_Waiting, ...], purpose: Purpose) -> Draft:
        tag = secrets.token_hex(4)
        if purpose == "leave" and not waiting:
            return self.account.draft_of_leaving(self._now(), tag=tag)
        return self.account.draft(_needs(waiting), self._now(), tag=tag)

    async def _write(self, draft: Draft) -> bool:
        """Whether it was done; if not, the account has learned what is there instead."""
        key = item_key(self.account.identity)
        told = to_update(draft.change, now=self._clock.time())
        try:
            item: Item | None = await self._table.update(
                key, set=told.set, add=told.add, remove=told.remove, condition=told.condition, tell=True
            )
        except ConditionFailed as failed:
            item = failed.item or await self._table.get(key)
            own = to_ledger(item).get(self.account.holder)
            if own is None or own.tag != draft.change.claim.tag:
                self.account.learn(to_ledger(item), self._now())
                return False
            # It was done by a try whose answer was lost.
        self.account.accept(draft, to_ledger(item), self._now())
        return True

    async def _look(self) -> None:
        self.account.learn(to_ledger(await self._table.get(item_key(self.account.identity))), self._now())

    async def _pause(self, conflicts: int) -> None:
        """None before the second try: that knows what it has to stand on."""
        if conflicts > 1:
            longest = min(PAUSE_SECONDS * 2 ** (conflicts - 2), LONGEST_PAUSE_SECONDS)
            await self._clock.sleep(self._reach.draw(0, longest))

    def _serve(self, waiting: Iterable[_Waiting]) -> None:
        """Give those what they wait for whom there is room for. Who was overtaken waits on, if there is more."""
        now = self._now()
        for one in waiting:
            if one.answer.done():
                continue
            if self.account.fits(one.meter, one.amount, now):
                self.account.used_at = now.steady
                one.answer.set_result(one.meter.use(one.amount, now.steady))
                self._waiting.remove(one)
            elif one.amount > one.meter.obtainable(now):
                self._answer((one,), None)

    def _answer(self, waiting: Iterable[_Waiting], outcome: Exception | None) -> None:
        """That they get nothing."""
        now = self._clock.monotonic()
        for one in tuple(waiting):
            if not one.answer.done():
                if outcome is None:
                    one.meter.refused_at = now
                    one.answer.set_result(None)
                else:
                    one.answer.set_exception(outcome)
            if one in self._waiting:
                self._waiting.remove(one)
        if outcome is None:
            lacks = self.account.lacks(self._now())
            longest = LOOK_SECONDS if lacks else RENEW_SECONDS
            self.account.look_at = now + self._reach.draw(longest * 0.75, longest * 1.25)

    def _now(self) -> Moment:
        return Moment(self._clock.monotonic(), self._clock.time())


def _needs(waiting: Iterable[_Waiting]) -> Needs:
    needs: dict[Kind, list[int]] = {}
    for one in waiting:
        needs.setdefault(one.meter.kind, []).append(one.amount)
    return needs
