"""Leases of a limit, as they are reckoned: whatever happens in whatever order, no minute holds more than the limit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.aws import ConditionFailed
from tests.web.lease_kit import TableInMemory
from web.lease_account import LOOK_SECONDS, Account, Moment
from web.leases import COUNTED_SECONDS, KINDS, LEASE_SECONDS, SKEW_SECONDS, fits_in, item_key, to_ledger, to_update
from web.windows import MINUTE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from web.lease_account import Draft, Meter
    from web.limits import Kind
    from web.windows import Slot

LIMITS: dict[Kind, int] = {"requests": 10, "tokens": 1000}
IDENTITY = "key:1"
HELD = LEASE_SECONDS + COUNTED_SECONDS + SKEW_SECONDS
"""Seconds after which nothing counts of a container that has died."""


@dataclass(eq=False)
class Use:
    at: float
    amount: int
    meter: Meter
    slot: Slot


@dataclass(eq=False)
class Write:
    """On its way to the table. `outcome`: what the table has answered, if it has."""

    draft: Draft
    needs: dict[Kind, list[int]]
    sent: float
    outcome: Any = None


@dataclass
class Container:
    """`ahead`: of true time, its clock is. A container has one write under way at most."""

    account: Account
    ahead: float
    write: Write | None = None


@dataclass
class World:
    """Containers, their clocks and the table, with everything that may happen to them."""

    ahead: list[float]
    now: float = 1000.0
    table: TableInMemory = field(default_factory=TableInMemory)
    uses: dict[Kind, list[Use]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    stray: list[Write] = field(default_factory=list)
    made: int = 0

    def __post_init__(self) -> None:
        self.containers = [self.container(ahead) for ahead in self.ahead]

    def container(self, ahead: float) -> Container:
        self.made += 1
        return Container(Account(IDENTITY, f"c{self.made}", LIMITS["requests"], LIMITS["tokens"]), ahead)

    def moment(self, one: Container) -> Moment:
        return Moment(self.now * 1.0 + 5, self.now + one.ahead)

    def use(self, one: Container, kind: Kind, amount: int) -> None:
        meter = next(meter for meter in one.account.meters if meter.kind == kind)
        now = self.moment(one)
        if one.account.fits(meter, amount, now):
            self.uses[kind].append(Use(self.now, amount, meter, meter.use(amount, now.steady)))
            assert self.in_the_last_minute(kind) <= LIMITS[kind]

    def in_the_last_minute(self, kind: Kind) -> int:
        return sum(use.amount for use in self.uses[kind] if use.at > self.now - MINUTE)

    def settle(self, nth: int, used: int) -> None:
        """Of some reservation of tokens less was used."""
        if self.uses["tokens"]:
            use = self.uses["tokens"][nth % len(self.uses["tokens"])]
            used = min(used, use.amount)
            use.meter.settle(use.slot, use.amount, used, self.now + 5)
            use.amount = used

    def begin(self, one: Container, needs: dict[Kind, list[int]], *, leave: bool) -> None:
        if one.write is None:
            tag, now = f"w{self.now}-{len(self.stray)}-{self.table.calls['update']}-{self.made}", self.moment(one)
            account = one.account
            draft = account.draft_of_leaving(now, tag=tag) if leave else account.draft(needs, now, tag=tag)
            one.write = Write(draft, needs, now.time)

    def land(self, write: Write) -> None:
        if write.outcome is None:
            try:
                told = to_update(write.draft.change, now=write.sent)._asdict()
                write.outcome = dict(self.table.apply(item_key(IDENTITY), **told))
            except ConditionFailed as failed:
                write.outcome = failed

    def hear(self, one: Container) -> None:
        """What has become of its write."""
        if one.write is None:
            return
        self.land(one.write)
        write, one.write = one.write, None
        if isinstance(write.outcome, ConditionFailed):
            one.account.learn(to_ledger(write.outcome.item), self.moment(one))
            return
        one.account.accept(write.draft, to_ledger(write.outcome), self.moment(one))
        for kind, amounts in write.needs.items():
            for amount in amounts:
                self.use(one, kind, amount)

    def lose(self, one: Container, *, dies: bool) -> None:
        """Nobody will hear what becomes of its write, which may still be done."""
        if one.write is not None:
            self.stray.append(one.write)
            one.write = None
        if dies:
            self.containers[self.containers.index(one)] = self.container(one.ahead)


CONTAINERS = 3
who = st.integers(0, CONTAINERS - 1)
amounts: dict[Kind, st.SearchStrategy[int]] = {"requests": st.just(1), "tokens": st.sampled_from([1, 90, 300, 1000])}
events = st.one_of(
    st.tuples(st.just("pass"), st.sampled_from([0.0, 0.3, 1.0, 4.0, 11.0, 20.0, 44.9, 59.5, 61.0])),
    st.tuples(st.just("use"), who, st.sampled_from(KINDS), st.integers(1, 6)),
    st.tuples(st.just("settle"), st.integers(0, 50), st.sampled_from([0, 10, 200])),
    st.tuples(st.just("begin"), who, st.lists(st.sampled_from(KINDS), max_size=6), st.booleans()),
    st.tuples(st.just("hear"), who),
    st.tuples(st.just("hear"), who),
    st.tuples(st.just("land"), who),
    st.tuples(st.just("stray"), st.integers(0, 5)),
    st.tuples(st.just("lose"), who, st.booleans()),
    st.tuples(st.just("look"), who),
)


def happen(world: World, event: tuple[Any, ...], draw: Iterator[int]) -> None:
    match event:
        case ("pass", seconds):
            world.now += seconds
        case ("use", one, kind, times):
            for _ in range(times):
                world.use(world.containers[one], kind, 1 if kind == "requests" else next(draw))
        case ("settle", nth, used):
            world.settle(nth, used)
        case ("begin", one, kinds, leave):
            needs: dict[Kind, list[int]] = {}
            for kind in kinds:
                needs.setdefault(kind, []).append(1 if kind == "requests" else next(draw))
            world.begin(world.containers[one], needs, leave=leave and not needs)
        case ("hear", one):
            world.hear(world.containers[one])
        case ("land", one) if world.containers[one].write is not None:
            write = world.containers[one].write
            assert write is not None
            world.land(write)
        case ("stray", nth) if world.stray:
            world.land(world.stray.pop(nth % len(world.stray)))
        case ("lose", one, dies):
            world.lose(world.containers[one], dies=dies)
        case ("look", one):
            container = world.containers[one]
            if container.write is None:
                container.account.learn(to_ledger(world.table.items.get("limit#key:1")), world.moment(container))


@given(
    ahead=st.lists(st.floats(0, SKEW_SECONDS, width=32), min_size=CONTAINERS, max_size=CONTAINERS),
    happening=st.lists(events, min_size=20, max_size=120),
    sizes=st.lists(st.sampled_from([1, 60, 90, 300, 1000]), min_size=5, max_size=5),
)
@settings(max_examples=40, deadline=None)
def test_no_minute_holds_more_than_the_limit_whatever_containers_do_and_whatever_becomes_of_their_writes(
    ahead: list[float], happening: list[tuple[Any, ...]], sizes: list[int]
) -> None:
    world = World(ahead)
    draw = (sizes[n % len(sizes)] for n in range(10**6))
    for event in happening:
        happen(world, event, draw)
    for kind in KINDS:
        for index, first in enumerate(world.uses[kind]):
            minute = [use for use in world.uses[kind][index:] if use.at < first.at + MINUTE]
            assert sum(use.amount for use in minute) <= LIMITS[kind]
    item = world.table.items.get("limit#key:1", {})
    for kind in KINDS:
        claimed = sum(claim.amounts.get(kind, 0) for claim in to_ledger(item).values())
        assert item.get(kind, 0) == claimed, "the sums are of the claims"
    everything_is_there_again_at_the_end(world)


def everything_is_there_again_at_the_end(world: World) -> None:
    world.now += HELD
    newcomer = world.container(0.0)
    newcomer.account.learn(to_ledger(world.table.items.get("limit#key:1")), world.moment(newcomer))
    before = len(world.uses["tokens"])
    world.begin(newcomer, {"requests": [1] * LIMITS["requests"], "tokens": [LIMITS["tokens"]]}, leave=False)
    world.hear(newcomer)
    assert world.in_the_last_minute("requests") == LIMITS["requests"]
    assert len(world.uses["tokens"]) == before + 1


def leased(world: World, one: Container, requests: int) -> int:
    """How many requests of those that want one pass."""
    before = len(world.uses["requests"])
    one.account.learn(to_ledger(world.table.items.get("limit#key:1")), world.moment(one))
    world.begin(one, {"requests": [1] * requests}, leave=False)
    world.hear(one)
    return len(world.uses["requests"]) - before


def test_what_is_not_used_is_there_for_others_at_once_when_a_container_leaves() -> None:
    world = World([0.0, 0.0])
    here, there = world.containers
    assert leased(world, here, 8) == 8
    assert leased(world, there, 8) == 1, "one more is leased than was used"
    world.begin(here, {}, leave=True)
    world.hear(here)
    assert leased(world, there, 8) == 1
    world.now += COUNTED_SECONDS - 0.01
    assert leased(world, there, 10) == 2
    world.now += 0.02
    assert leased(world, there, 10) == 8


def test_a_container_that_dies_holds_its_part_no_longer_than_its_lease_and_a_minute() -> None:
    world = World([0.0, 0.0])
    dead, heir = world.containers
    assert leased(world, dead, 10) == 10
    world.now += LEASE_SECONDS + COUNTED_SECONDS - 0.01
    assert leased(world, heir, 10) == 0
    world.now += 0.02
    assert leased(world, heir, 10) == 10
    assert list(to_ledger(world.table.items["limit#key:1"])) == [heir.account.holder], "nothing is left of the dead"


def test_clocks_may_be_apart_as_far_as_is_said() -> None:
    world = World([0.0, SKEW_SECONDS])
    dead, heir = world.containers
    leased(world, dead, 1)
    world.now += LEASE_SECONDS - 0.01
    world.use(dead, "requests", 1)
    assert len(world.uses["requests"]) == 2, "used at the last moment"
    world.now += MINUTE - 0.01
    leased(world, heir, 10)
    world.now += 0.02
    leased(world, heir, 10)
    assert world.in_the_last_minute("requests") == 10


@pytest.mark.parametrize("leaves", [True, False])
def test_what_a_container_gives_up_in_a_write_it_uses_no_more_even_if_it_never_hears_of_it(leaves: bool) -> None:
    world = World([0.0, 0.0])
    here, there = world.containers
    assert leased(world, here, 1) == 1
    assert here.account.fits(here.account.requests, 1, world.moment(here)), "it has leased more than that"
    assert leased(world, there, 8) == 8
    here.account.learn(to_ledger(world.table.items["limit#key:1"]), world.moment(here))
    world.begin(here, {}, leave=leaves)
    write = here.write
    assert write is not None
    world.lose(here, dies=False)
    world.land(write)
    assert leased(world, there, 10) == 1, "which was given up"
    world.use(here, "requests", 1)
    assert world.in_the_last_minute("requests") == 10


def test_one_who_lacks_its_part_gets_it_from_one_who_has_more() -> None:
    world = World([0.0, 0.0])
    rich, poor = world.containers
    assert leased(world, rich, 10) == 10
    assert leased(world, poor, 5) == 0
    for _ in range(14):
        world.now += LOOK_SECONDS
        for _ in range(10):
            world.use(rich, "requests", 1)
        world.begin(rich, {"requests": [1] * 10}, leave=False)
        world.hear(rich)
        leased(world, poor, 5)
    recent = [use for use in world.uses["requests"] if use.at > world.now - MINUTE]
    assert sum(use.meter is poor.account.requests for use in recent) == 5
    assert sum(use.meter is rich.account.requests for use in recent) == 5


def test_what_has_to_be_waited_for_is_as_long_as_it_takes_for_enough_to_end() -> None:
    assert fits_in(3, 10, [(5.0, 4), (9.0, 3)]) == 0
    assert fits_in(4, 10, [(9.0, 3), (5.0, 4)]) == 5
    assert fits_in(8, 10, [(9.0, 3), (5.0, 4)]) == 9
    assert fits_in(11, 10, [(9.0, 3)]) == float("inf")
