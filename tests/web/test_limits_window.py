"""Rates: never more than is allowed in any minute, wherever it begins, and never less for no reason."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.settings import Limits
from tests.web.doubles import HandClock
from web import limits as module
from web.caller import Caller
from web.errors import RateLimited
from web.limits import MemoryLimiter, duration, headers_of
from web.windows import MINUTE, MOST_SLOTS, Window

GAPS = st.lists(
    st.one_of(st.floats(0, 2, width=32), st.floats(0, 90, width=32), st.just(0.0), st.sampled_from([59.5, 59.9, 60.0])),
    max_size=250,
)


@given(limit=st.sampled_from([1, 3, 60, 128, 129, 200]), gaps=GAPS)
@settings(max_examples=80, deadline=None)
def test_no_minute_holds_more_than_the_limit_and_nothing_is_refused_without_cause(
    limit: int, gaps: list[float]
) -> None:
    window, now, taken = Window(limit), 1000.0, list[float]()
    grain = MINUTE / MOST_SLOTS if limit > MOST_SLOTS else 0.0
    for gap in gaps:
        now += gap
        if window.room_in(1, now) == 0:
            window.add(1, now)
            taken.append(now)
        else:
            recent = [moment for moment in taken if moment > now - MINUTE - grain]
            assert len(recent) >= limit, "refused, although there was room"
    for index, begin in enumerate(taken):
        assert sum(moment < begin + MINUTE for moment in taken[index:]) <= limit


@given(
    limit=st.sampled_from([10, 100, 1000]),
    uses=st.lists(st.tuples(st.floats(0, 40, width=32), st.integers(0, 400)), max_size=100),
)
@settings(max_examples=80, deadline=None)
def test_what_has_to_be_waited_for_is_neither_too_long_nor_too_short(limit: int, uses: list[tuple[float, int]]) -> None:
    window, now = Window(limit), 0.0
    for gap, amount in uses:
        now += gap
        wait = window.room_in(amount, now)
        if amount > limit:
            assert wait == math.inf
            continue
        assert 0 <= wait <= MINUTE
        if wait > 0:
            assert window.standing(now + wait * 0.999)[0] < amount
            now += wait * (1 + 1e-12) + 1e-9
        assert window.standing(now)[0] >= amount
        window.add(amount, now)


def test_a_window_is_full_again_a_minute_after_its_last_use() -> None:
    window = Window(2)
    assert window.standing(0)[1] == 0
    window.add(1, 0)
    window.add(1, 10)
    assert (window.standing(10)[0], window.standing(10)[1], window.room_in(1, 10)) == (0, 60, 50)
    assert (window.standing(60)[0], window.standing(60)[1]) == (1, 10)
    assert (window.standing(70)[0], window.standing(70)[1]) == (2, 0)


def test_memory_of_a_large_window_is_bounded() -> None:
    window = Window(10**9)
    for step in range(70_000):
        window.add(1, step / 1000)
    assert len(window._slots) <= MOST_SLOTS + 1
    assert window.standing(69.999)[0] <= 10**9 - 60_000


@dataclass
class Bench:
    """A limiter on a clock that is turned."""

    limits: Limits = field(default_factory=Limits)
    clock: HandClock = field(default_factory=HandClock)
    decisions: list[bool] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.limiter = MemoryLimiter(self.limits, self.clock)
        self.limiter.watch(self.decisions.append)

    async def allowed(self, caller: Caller, times: int = 1) -> int:
        count = 0
        for _ in range(times):
            try:
                await self.limiter.take(caller)
            except RateLimited:
                continue
            count += 1
        return count


def ip(number: int) -> Caller:
    return Caller(identity=f"ip:10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}")


async def test_each_caller_has_a_limit_of_its_own_and_a_key_may_have_another() -> None:
    bench = Bench(Limits(default_rate_limit_per_minute=3))
    key = Caller(identity="key:a", name="a", requests_per_minute=5)
    assert [await bench.allowed(who, 10) for who in (ip(1), ip(2), key)] == [3, 3, 5]
    assert (sum(bench.decisions), len(bench.decisions)) == (11, 30)
    bench.clock.advance(60)
    assert await bench.allowed(ip(1), 10) == 3


async def test_a_refusal_says_what_is_allowed_and_when_to_come_again() -> None:
    bench = Bench(Limits(default_rate_limit_per_minute=1))
    await bench.limiter.take(ip(1))
    bench.clock.advance(20.5)
    with pytest.raises(RateLimited, match=r"1 requests a minute are allowed\. Try again in 40s") as caught:
        await bench.limiter.take(ip(1))
    assert (caught.value.kind, caught.value.retry_after) == ("requests", 39.5)


async def test_accounts_in_which_nothing_counts_are_forgotten() -> None:
    bench = Bench()
    for number in range(1000):
        await bench.limiter.take(ip(number))
        bench.limiter.standing(ip(number + 5000))
    assert len(bench.limiter) == 1000
    bench.clock.advance(60)
    await bench.limiter.take(ip(1))
    assert len(bench.limiter) == 1


async def test_many_addresses_cannot_push_out_an_account_that_still_counts(monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "MOST_ACCOUNTS", 10)
    monkeypatch.setattr(module, "SHARED_ACCOUNTS", 4)
    bench = Bench(Limits(default_rate_limit_per_minute=2))
    assert await bench.allowed(ip(0), 5) == 2
    for number in range(1, 1000):
        await bench.allowed(ip(number))
    assert len(bench.limiter) <= 14
    assert await bench.allowed(ip(0), 5) == 0
    newcomers = [await bench.allowed(ip(number), 3) for number in range(2000, 2100)]
    assert max(newcomers) <= 2
    assert await bench.allowed(Caller(identity="key:x", name="x"), 5) == 2, "a key always has its own"


@given(steps=st.lists(st.tuples(st.integers(0, 30), st.floats(0, 20, width=32)), min_size=20, max_size=200))
@settings(max_examples=40, deadline=None)
async def test_moving_between_own_and_shared_accounts_never_doubles_a_limit(steps: list[tuple[int, float]]) -> None:
    most, shared = module.MOST_ACCOUNTS, module.SHARED_ACCOUNTS
    module.MOST_ACCOUNTS, module.SHARED_ACCOUNTS = 3, 2
    try:
        bench = Bench(Limits(default_rate_limit_per_minute=2))
        taken: dict[int, list[float]] = {}
        for number, gap in steps:
            bench.clock.advance(gap)
            if await bench.allowed(ip(number)):
                taken.setdefault(number, []).append(bench.clock.monotonic())
        for moments in taken.values():
            for index, begin in enumerate(moments):
                assert sum(moment < begin + MINUTE for moment in moments[index:]) <= 2
    finally:
        module.MOST_ACCOUNTS, module.SHARED_ACCOUNTS = most, shared


async def test_tokens_are_reserved_and_settled() -> None:
    bench = Bench(Limits(default_tokens_per_minute=1000))
    reservation = await bench.limiter.reserve(ip(1), 800)
    assert reservation is not None
    with pytest.raises(RateLimited) as caught:
        await bench.limiter.reserve(ip(1), 300)
    assert (caught.value.kind, caught.value.retry_after) == ("tokens", 60.0)
    reservation.settle(100)
    assert bench.limiter.standing(ip(1)).tokens == (1000, 900, 60.0)
    again = await bench.limiter.reserve(ip(1), 300)
    assert again is not None
    again.settle(400)
    assert bench.limiter.standing(ip(1)).tokens == (1000, 500, 60.0)


async def test_a_request_that_can_never_fit_is_told_so() -> None:
    bench = Bench(Limits(default_tokens_per_minute=1000))
    with pytest.raises(
        RateLimited, match=r"too large: 1000 tokens a minute are allowed, and it may need 1001"
    ) as caught:
        await bench.limiter.reserve(ip(1), 1001)
    assert caught.value.retry_after is None


async def test_settling_after_the_minute_gives_nothing_back_and_counts_what_was_used_beyond() -> None:
    bench = Bench(Limits(default_tokens_per_minute=1000))
    generous, tight = await bench.limiter.reserve(ip(1), 500), await bench.limiter.reserve(ip(1), 100)
    assert generous is not None
    assert tight is not None
    bench.clock.advance(61)
    generous.settle(0)
    assert bench.limiter.standing(ip(1)).tokens == (1000, 1000, 0.0)
    tight.settle(300)
    assert bench.limiter.standing(ip(1)).tokens == (1000, 800, 60.0)


async def test_without_a_limit_of_tokens_none_are_reserved_and_none_told() -> None:
    bench = Bench()
    assert await bench.limiter.reserve(ip(1), 10**9) is None
    names = {name for name, _ in headers_of(bench.limiter.standing(ip(1)))}
    assert names == {f"x-ratelimit-{what}-requests".encode() for what in ("limit", "remaining", "reset")}


@pytest.mark.parametrize(
    ("seconds", "spelled"),
    [
        (0, "0s"),
        (0.0004, "1ms"),
        (0.25, "250ms"),
        (0.9999, "1s"),
        (1, "1s"),
        (59.2, "1m0s"),
        (60, "1m0s"),
        (360, "6m0s"),
    ],
)
def test_durations_are_spelled_as_openai_does(seconds: float, spelled: str) -> None:
    assert duration(seconds) == spelled
