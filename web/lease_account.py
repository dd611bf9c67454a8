"""What one container has of one caller's limits, and what it should have: decisions, without a table. Pure.

`Account.draft` says what to write; `accept`, `learn` tell how that went. Whatever becomes of a write, known or not,
this container uses at no time more than it claims in any ledger that may be the table's: from a draft on only the
smaller part may be used, until the write is known to have been done.

`Moment` has both clocks: windows go by the monotonic one, what others are told by the other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from web.leases import COUNTED_SECONDS, LEASE_SECONDS, SKEW_SECONDS, Claim, Others, change, fits_in
from web.windows import MINUTE, Window

if TYPE_CHECKING:
    from web.leases import Change, Ledger
    from web.limits import Kind
    from web.windows import Slot

RENEW_SECONDS = 20.0
"""A lease that is used is renewed after so long."""
LOOK_SECONDS = 5.0
"""How often who lacks something looks whether others have left it some."""
LACKS_SECONDS = 4 * LOOK_SECONDS
"""How long who lacks something is held to."""
IDLE_SECONDS = 10.0
"""After which a container that was not asked tells what it has used, and leaves the rest to the others."""
SPARE_SHARE = 16
"""One in so many of a limit is leased beyond what is needed, where there is enough of it."""
FRESH_SECONDS = 0.5
"""What was seen no longer ago is taken for what is there."""

Needs = Mapping["Kind", Sequence[int]]
"""What those who wait want, the first one first."""
Step = Literal["write", "look", "rest"]


class Moment(NamedTuple):
    """`steady` never goes backwards; `time`: seconds since the epoch, as near as the clock is right."""

    steady: float
    time: float


class Meter:
    """One limit. `window`: what this container has used of it, limited by what it may use while the lease lasts."""

    def __init__(self, kind: Kind, limit: int) -> None:
        self.kind = kind
        self.limit = limit
        self.window = Window(limit)
        self.window.limit = 0
        self.others = Others({}, "", kind)
        self.claimed = 0
        """By this container, as it may be in the table."""
        self.low = -math.inf
        """With no more than this left, there should soon be more; never, where there is none to be had."""
        self.taken = 0
        """Since the last write."""
        self.size = 1
        """Of the last request."""
        self.refused_at = -math.inf

    def use(self, amount: int, now: float) -> Slot:
        """Whether it fits or not."""
        self.taken += amount
        self.size = amount
        return self.window.add(amount, now)

    def settle(self, slot: Slot, reserved: int, used: int, now: float) -> None:
        """Of what was reserved so much was used."""
        if used < reserved:
            self.window.give_back(slot, reserved - used, now)
        elif used > reserved:
            self.window.add(used - reserved, now)
        self.taken += used - reserved

    def remaining(self, now: Moment) -> int:
        """Of the whole limit, as far as known."""
        self.window.standing(now.steady)
        return max(0, self.limit - self.others.counted(now.time) - self.window.used)

    def reset(self, now: Moment) -> float:
        """Seconds until all of it is there again, if nobody uses any."""
        return min(MINUTE, max(self.window.standing(now.steady)[1], self.others.last_end(now.time)))

    def fair(self, now: float) -> int:
        return self.limit // (self.others.living(now) + 1)

    def obtainable(self, now: Moment) -> int:
        """How much may be used now beyond what was, as far as known. While another lacks something, who has used some
        takes no more than its fair part."""
        remaining = self.remaining(now)
        if self.others.lacking(now.time) and self.window.used:
            return max(0, min(remaining, self.fair(now.time) - self.window.used))
        return remaining

    def wait(self, amount: int, now: Moment) -> float:
        """Seconds until `amount` fits, as far as known; until the next look, where it is left to another."""
        used = [(until - now.steady, one) for until, one in self.window.uses(now.steady)]
        own = self.window.room_in(amount, now.steady)
        return min(own, fits_in(amount, self.limit, used + self.others.ends(now.time)), MINUTE) or LOOK_SECONDS

    def wait_alone(self, amount: int, now: float) -> float:
        """Likewise, were there no other container."""
        return fits_in(amount, self.limit, [(until - now, one) for until, one in self.window.uses(now)])

    def overstated(self, now: Moment, *, leased: bool) -> bool:
        """Whether what is claimed is so much more than was used, or (`leased`) for so much longer than it counts, that
        others should be told."""
        self.window.standing(now.steady)
        much = self.claimed - self.window.used >= max(1, self.limit // 8)
        return much or (leased and self.claimed >= max(1, self.limit // 4))


class Terms(NamedTuple):
    """Of one limit, in a draft. `usable`: in any minute. `raised`: whether it is more than was used."""

    usable: int
    claimed: int
    raised: bool
    lacks: bool
    low: float


@dataclass(frozen=True, slots=True)
class Draft:
    """`until`: when the lease ends; 0: there is none then."""

    change: Change
    until: float
    terms: dict[Kind, Terms]

    @property
    def renew_in(self) -> float:
        """Seconds. Who has yielded something that still counts tells soon when it does no more."""
        yielding = any(one.claimed > one.usable for one in self.terms.values())
        return LOOK_SECONDS if yielding else RENEW_SECONDS


class Account:
    """Of one caller, in this container, which the others know as `holder`."""

    def __init__(self, identity: str, holder: str, requests: int, tokens: int | None) -> None:
        self.identity = identity
        self.holder = holder
        self.limits = (requests, tokens)
        self.requests = Meter("requests", requests)
        self.tokens = Meter("tokens", tokens) if tokens else None
        self.ledger: Ledger = {}
        self.until = 0.0
        """When the lease ends, by the time of the epoch."""
        self.used_at = -math.inf
        self.written_at = -math.inf
        self.seen_at = -math.inf
        """When the ledger was, by the steady clock, as for all of these."""
        self.renew_at = math.inf
        self.look_at = -math.inf
        """Before then, what is known not to be there is not asked for."""
        self.lack_told_at = -math.inf

    @property
    def meters(self) -> tuple[Meter, ...]:
        return (self.requests,) if self.tokens is None else (self.requests, self.tokens)

    def set_limits(self, requests: int, tokens: int | None) -> None:
        self.limits = (requests, tokens)
        self.requests.limit = requests
        if tokens is None:
            self.tokens = None
        elif self.tokens is None:
            self.tokens = Meter("tokens", tokens)
            self.tokens.others = Others(self.ledger, self.holder, "tokens")
        else:
            self.tokens.limit = tokens
        for meter in self.meters:
            meter.window.limit = min(meter.window.limit, meter.limit)

    def fits(self, meter: Meter, amount: int, now: Moment) -> bool:
        """Whether it may be used with nobody asked."""
        return self.until > now.time and not meter.window.room_in(amount, now.steady)

    def learn(self, ledger: Ledger, now: Moment) -> None:
        """What is in the table."""
        self.ledger = ledger
        self.seen_at = now.steady
        for meter in self.meters:
            meter.others = Others(ledger, self.holder, meter.kind)

    def running_out(self, meter: Meter, now: Moment) -> bool:
        """Whether the lease, which is used, will soon be over or used up."""
        return now.steady >= self.renew_at or meter.window.limit - meter.window.used <= meter.low

    def blocked(self, meter: Meter, amount: int, now: Moment) -> bool:
        """Whether it is known not to be there, and too soon to look again."""
        return now.steady < self.look_at and amount > meter.obtainable(now)

    def lacks(self, now: Moment) -> bool:
        """Whether it has less than its fair part, where it could use that."""
        return any(
            meter.window.limit < max(meter.fair(now.time), meter.size)
            for meter in self.meters
            if now.steady - meter.refused_at < LOOK_SECONDS
        )

    def step(self, needs: Needs, now: Moment, *, due: bool) -> Step:
        """What to do for those who wait. `due`: a write is, in any case."""
        if self.seen_at == -math.inf or due:
            return "write"
        meters = [(meter, needs.get(meter.kind, ())) for meter in self.meters]
        if any(min(wanted) <= meter.obtainable(now) for meter, wanted in meters if wanted):
            return "write"
        if now.steady - self.seen_at > FRESH_SECONDS:
            return "look"
        lacks = any(meter.window.limit < max(meter.fair(now.time), min(wanted)) for meter, wanted in meters if wanted)
        return "write" if lacks and now.steady - self.lack_told_at > LACKS_SECONDS / 2 else "rest"

    def draft(self, needs: Needs, now: Moment, *, tag: str) -> Draft:
        """A lease for LEASE_SECONDS from now, with room for those `needs` that can be met, the first ones first."""
        until = now.time + LEASE_SECONDS
        terms = {meter.kind: self._terms(meter, needs.get(meter.kind, ()), now) for meter in self.meters}
        return self._drafted(terms, now, until=until, counts_until=until + COUNTED_SECONDS, tag=tag)

    def draft_of_leaving(self, now: Moment, *, tag: str) -> Draft:
        """No lease from now on, only what was used."""
        self.until = 0.0
        last = max(meter.window.standing(now.steady)[1] for meter in self.meters)
        terms = {meter.kind: Terms(0, meter.window.used, False, False, -math.inf) for meter in self.meters}
        return self._drafted(terms, now, until=0.0, counts_until=now.time + last + SKEW_SECONDS, tag=tag)

    def accept(self, draft: Draft, ledger: Ledger, now: Moment) -> None:
        """It was written, and this is what is in the table then."""
        self.learn(ledger, now)
        self.until = draft.until
        self.written_at = now.steady
        self.renew_at = now.steady + draft.renew_in if draft.until else math.inf
        for meter in self.meters:
            if (terms := draft.terms.get(meter.kind)) is not None:
                meter.window.limit = min(terms.usable, meter.limit)
                meter.low = terms.low
                meter.taken = 0
        if draft.change.claim.lacks:
            self.lack_told_at = now.steady

    def should_tell(self, now: Moment) -> bool:
        """Whether others should know that it is not asked any more."""
        idle = now.steady - max(self.used_at, self.written_at) >= IDLE_SECONDS
        return idle and any(meter.overstated(now, leased=self.until > now.time) for meter in self.meters)

    def is_over(self, now: Moment) -> bool:
        """Whether nothing of it counts any more."""
        nothing = all(not meter.window.standing(now.steady)[1] for meter in self.meters)
        return nothing and self.until <= now.time and now.steady - self.used_at >= MINUTE

    def _terms(self, meter: Meter, needs: Sequence[int], now: Moment) -> Terms:
        obtainable, used = meter.obtainable(now), meter.window.used
        granted = 0
        for need in needs:
            granted += need if granted + need <= obtainable else 0
        spare = obtainable - granted
        held = max(0, meter.window.limit - used - granted) if self.until > now.time else 0
        extra = self._extra(meter, spare, held, now)
        fair, usable = meter.fair(now.time), used + granted + extra
        if meter.others.lacking(now.time) and used > fair:
            usable = fair if fair >= meter.size else 0
        refused = sum(needs) > granted or now.steady - meter.refused_at < LOOK_SECONDS
        return Terms(
            usable=usable, claimed=max(usable, used), raised=usable > used,
            lacks=refused and usable < max(fair, min(needs, default=1)),
            low=extra // 4 if spare > extra else -math.inf,
        )  # fmt: skip

    def _extra(self, meter: Meter, spare: int, held: int, now: Moment) -> int:
        """How much to lease beyond what is needed, of so much that is there, and so much that is held: what will be
        used while the lease lasts, if that goes on as it went, and nothing too small for a request."""
        passed = now.steady - self.written_at
        expected = math.ceil(meter.taken / max(passed, 1.0) * LEASE_SECONDS)
        wanted = max(meter.limit // SPARE_SHARE, expected, meter.size)
        others = meter.others.living(now.time)
        part = spare // (others + 2)
        if not others and not meter.others.lacking(now.time):
            part = max(part, min(held, spare))
        extra = min(wanted, part)
        return extra if extra >= meter.size else 0

    def _drafted(self, terms: dict[Kind, Terms], now: Moment, *, until: float, counts_until: float, tag: str) -> Draft:
        for meter in self.meters:
            meter.window.limit = min(meter.window.limit, terms[meter.kind].usable)
            meter.claimed = terms[meter.kind].claimed
        lacks = tuple(kind for kind, one in terms.items() if one.lacks)
        claim = Claim(
            tag, counts_until, {kind: one.claimed for kind, one in terms.items()}, lacks,
            now.time + LACKS_SECONDS if lacks else 0.0,
        )  # fmt: skip
        most = {meter.kind: meter.limit for meter in self.meters if terms[meter.kind].raised}
        return Draft(change(self.ledger, self.holder, claim, most=most, now=now.time), until, terms)
