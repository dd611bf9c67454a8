"""What containers have of one caller's limits, as they tell one another in one item of the table. Pure.

A container leases a *part* of a limit: so much of it in any minute, used and used again with nobody asked. What all
of them claim is never more than the limit, so what all of them use is not either, in any 60 s: a container that may
use `n` in any minute until `v` claims `n` until `v` + 60 s, since it may have used all of it just before `v`. One that
stops tells how much it has used and when the last of it counts no longer, and claims no more than that. One that dies
says nothing, and its claim ends by itself.

The item holds every container's claim, and their sums, which only grow while they are within the limit: so a container
needs to know nothing of the others to write, and two that write at once do not come in each other's way. Whoever
finds a claim that has ended removes it, from the sums too.

Times are seconds since the epoch by the clock of whoever writes. Claims last SKEW_SECONDS longer than they would have
to: so far the clocks of two containers may be apart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from infra.table import Condition, Item, Key
from web.windows import MINUTE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from web.limits import Kind

LEASE_SECONDS = 45.0
"""How long a container may use a part of a limit without writing again."""
SKEW_SECONDS = 1.0
COUNTED_SECONDS = MINUTE + SKEW_SECONDS
"""How long what may have been used counts."""
KEPT_SECONDS = 3600
"""How long an item is kept that nobody writes any more."""
KINDS: tuple[Kind, ...] = ("requests", "tokens")
HOLDER = "container-"
"""What the attributes begin with that hold a container's claim each; its name follows."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One container's. `tag` names the write that it is of. `amounts` count until `until`. `lacks`: of what the
    container has less than its fair part, held to be so until `lacks_until`."""

    tag: str
    until: float
    amounts: Mapping[Kind, int]
    lacks: tuple[Kind, ...] = ()
    lacks_until: float = 0.0


Ledger = dict[str, Claim]
"""Claims by container."""


@dataclass(frozen=True, slots=True)
class Change:
    """A write: a container's claim in place of its last one (that of the write `last`), and without the claims `over`,
    which have ended. `most`: which sums may not be above what then, since the claim grows."""

    holder: str
    claim: Claim
    last: str | None
    over: Mapping[str, str]
    """Container -> tag."""
    added: Mapping[Kind, int]
    most: Mapping[Kind, int]


class Others:
    """What the other containers claim of one limit, as last known."""

    def __init__(self, ledger: Ledger, holder: str, kind: Kind) -> None:
        claims = [claim for other, claim in ledger.items() if other != holder]
        self._lacking = max((claim.lacks_until for claim in claims if kind in claim.lacks), default=0.0)
        self._ends = sorted(((claim.until, claim.amounts.get(kind, 0)) for claim in claims), reverse=True)
        """The first to end is the last."""
        self._counted = sum(amount for _, amount in self._ends)

    def counted(self, now: float) -> int:
        ends = self._ends
        while ends and ends[-1][0] <= now:
            self._counted -= ends.pop()[1]
        return self._counted

    def ends(self, now: float) -> list[tuple[float, int]]:
        """(seconds until it ends, amount) of each claim."""
        self.counted(now)
        return [(until - now, amount) for until, amount in self._ends]

    def last_end(self, now: float) -> float:
        """Seconds until nothing of it counts."""
        return self._ends[0][0] - now if self.counted(now) else 0.0

    def lacking(self, now: float) -> bool:
        """Whether one of them has less than its fair part."""
        return self._lacking > now

    def living(self, now: float) -> int:
        """How many there are that use a lease, as far as can be told."""
        return sum(until > now + COUNTED_SECONDS for until, _ in self._ends)


def change(ledger: Ledger, holder: str, claim: Claim, *, most: Mapping[Kind, int], now: float) -> Change:
    """`most`: of the limits of which the claim must not make the sum too large."""
    last = ledger.get(holder)
    over = {other: one for other, one in ledger.items() if other != holder and one.until <= now}
    gone = [*over.values(), *([last] if last is not None else [])]
    kinds = {*claim.amounts, *(kind for one in gone for kind in one.amounts)}
    added = {kind: claim.amounts.get(kind, 0) - sum(one.amounts.get(kind, 0) for one in gone) for kind in kinds}
    return Change(
        holder=holder, claim=claim, last=last.tag if last is not None else None,
        over={other: one.tag for other, one in over.items()}, added=added,
        most={kind: limit for kind, limit in most.items() if added[kind] > 0},
    )  # fmt: skip


def fits_in(amount: int, limit: int, counting: Iterable[tuple[float, int]]) -> float:
    """Seconds until `amount` fits, where each of `counting` (seconds, amount) counts for so long; infinite: never."""
    ends = sorted(counting)
    missing, wait = sum(one for _, one in ends) + amount - limit, 0.0
    for end, one in ends:
        if missing <= 0:
            break
        missing -= one
        wait = end
    return wait if missing <= 0 else math.inf


def item_key(identity: str) -> Key:
    return Key(f"limit#{identity}", "leases")


class Update(NamedTuple):
    """As `Table.update` takes it."""

    set: Item
    add: dict[str, int]
    remove: tuple[str, ...]
    condition: Condition


def to_update(change: Change, *, now: float) -> Update:
    from boto3.dynamodb.conditions import Attr

    own = HOLDER + change.holder
    condition: Any = Attr(own).not_exists() if change.last is None else Attr(f"{own}.tag").eq(change.last)
    for other, tag in change.over.items():
        condition &= Attr(f"{HOLDER}{other}.tag").eq(tag)
    for kind, most in change.most.items():
        condition &= Attr(kind).not_exists() | Attr(kind).lte(most - change.added[kind])
    return Update(
        set={own: _told(change.claim), "ttl": math.ceil(now) + KEPT_SECONDS},
        add={kind: amount for kind, amount in change.added.items() if amount},
        remove=tuple(HOLDER + other for other in change.over),
        condition=condition,
    )


def to_ledger(item: Item | None) -> Ledger:
    told = (item or {}).items()
    return {name.removeprefix(HOLDER): _read(claim) for name, claim in told if name.startswith(HOLDER)}


def _told(claim: Claim) -> Item:
    """Milliseconds, since DynamoDB's numbers are decimal."""
    return {
        "tag": claim.tag, "until": math.ceil(claim.until * 1000), "amounts": dict(claim.amounts),
        "lacks": list(claim.lacks), "lacks_until": math.ceil(claim.lacks_until * 1000),
    }  # fmt: skip


def _read(told: Item) -> Claim:
    amounts: dict[Kind, int] = {kind: int(told["amounts"][kind]) for kind in KINDS if kind in told["amounts"]}
    lacks = tuple(kind for kind in KINDS if kind in told["lacks"])
    return Claim(told["tag"], float(told["until"]) / 1000, amounts, lacks, float(told["lacks_until"]) / 1000)
