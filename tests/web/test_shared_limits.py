"""Limits across containers, on the emulator's DynamoDB: each `SharedLimiter` is a container's."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from infra.aws import Clients
from infra.settings import Limits, Security
from infra.table import Table
from tests.web.conftest import chat, settings_with, until
from tests.web.doubles import HandClock
from tests.web.test_limits import rates
from web.caller import Caller
from web.errors import RateLimited
from web.lease_account import IDLE_SECONDS, LOOK_SECONDS
from web.lease_keeper import RETRY_SECONDS
from web.leases import COUNTED_SECONDS, LEASE_SECONDS
from web.limits import Limiter, MemoryLimiter
from web.shared_limits import SharedLimiter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from functions.engines.scripted_server import ScriptedServer
    from tests.aws_kit import StateOfTest

pytestmark = pytest.mark.slow

PATIENCE = 60.0


def caller(requests: int = 10, tokens: int | None = None) -> Caller:
    return Caller(identity="key:1", name="one", requests_per_minute=requests, tokens_per_minute=tokens)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
async def container(aws_state: StateOfTest, clock: HandClock) -> AsyncIterator[Callable[[], SharedLimiter]]:
    made: list[SharedLimiter] = []

    def make() -> SharedLimiter:
        made.append(SharedLimiter(aws_state.table, Limits(), clock, patience=PATIENCE))
        return made[-1]

    yield make
    for one in made:
        await one.close()


async def allowed(limiter: Limiter, who: Caller, times: int) -> int:
    async def one() -> bool:
        try:
            await limiter.take(who)
        except RateLimited:
            return False
        return True

    return sum(await asyncio.gather(*(one() for _ in range(times))))


@pytest.mark.parametrize("kind", ["memory", "shared"])
async def test_a_limiter_counts_reserves_settles_and_tells(
    kind: str, container: Callable[[], SharedLimiter], clock: HandClock
) -> None:
    limiter: Limiter = container() if kind == "shared" else MemoryLimiter(Limits(), clock)
    decisions: list[bool] = []
    limiter.watch(decisions.append)
    who = caller(5, tokens=1000)
    assert await allowed(limiter, who, 7) == 5
    reservation = await limiter.reserve(who, 800)
    assert reservation is not None
    with pytest.raises(RateLimited, match="Try again in 1m0s") as refused:
        await limiter.reserve(who, 300)
    assert (refused.value.kind, refused.value.retry_after) == ("tokens", 60.0)
    assert limiter.standing(who) == ((5, 0, 60.0), (1000, 200, 60.0))
    reservation.settle(100)
    more = await limiter.reserve(who, 300)
    assert more is not None
    more.settle(350)
    assert limiter.standing(who).tokens == (1000, 550, 60.0)
    with pytest.raises(RateLimited, match="too large") as never:
        await limiter.reserve(who, 1001)
    assert never.value.retry_after is None
    assert decisions == [True] * 5 + [False] * 4
    clock.advance(60)
    assert await allowed(limiter, who, 7) == 5
    assert await limiter.reserve(Caller(identity="key:2", name="two"), 10**9) is None
    await limiter.close()


async def test_all_containers_together_let_through_what_the_limit_says(
    container: Callable[[], SharedLimiter], clock: HandClock
) -> None:
    here, there = container(), container()
    who = caller(10)
    assert await allowed(here, who, 7) == 7
    assert await allowed(there, who, 7) <= 3
    assert await allowed(here, who, 3) + await allowed(there, who, 3) <= 3
    assert there.standing(who).requests.remaining + here.standing(who).requests.remaining <= 3
    clock.advance(LEASE_SECONDS + COUNTED_SECONDS)
    assert await allowed(there, who, 20) == 10
    assert await allowed(here, who, 5) == 0


async def test_under_a_lease_a_request_costs_no_call(
    container: Callable[[], SharedLimiter], aws_state: StateOfTest, clock: HandClock
) -> None:
    limiter, who = container(), caller(6000, tokens=10**6)
    for _ in range(300):
        await limiter.take(who)
        reservation = await limiter.reserve(who, 100)
        assert reservation is not None
        reservation.settle(10)
        clock.advance(0.2)
        await asyncio.sleep(0)
    await limiter.close()
    assert len(aws_state.calls) < 15, "it is renewed every 20 s, and grown at first"
    assert set(aws_state.calls) == {"dynamodb:UpdateItem"}
    assert len(aws_state.items()) == 1


async def test_a_blocked_key_asks_the_table_seldom_and_is_told_when_to_come_again(
    container: Callable[[], SharedLimiter], aws_state: StateOfTest, clock: HandClock
) -> None:
    who = caller(10)
    assert await allowed(container(), who, 10) == 10
    table = Cut(aws_state.clients, aws_state.name)
    there = SharedLimiter(table, Limits(), clock, patience=PATIENCE)
    clock.advance(20)
    with pytest.raises(RateLimited) as refused:
        await there.take(who)
    assert refused.value.retry_after is not None
    assert refused.value.retry_after >= 40
    table.tried = 0
    assert await allowed(there, who, 200) == 0
    assert table.tried == 0
    clock.advance(2 * LOOK_SECONDS)
    assert await allowed(there, who, 200) == 0
    assert 1 <= table.tried <= 4, "it looks, and tells that it lacks something"
    await there.close()


async def test_a_container_that_is_asked_no_more_leaves_the_rest_to_the_others(
    container: Callable[[], SharedLimiter], aws_state: StateOfTest, clock: HandClock
) -> None:
    here, there = container(), container()
    who = caller(10)
    assert await allowed(here, who, 8) == 8
    aws_state.calls.clear()
    for _ in range(3):
        clock.advance(LOOK_SECONDS)
        await asyncio.sleep(0.01)
    await until(lambda: aws_state.items()[0]["requests"] == 8, seconds=20)
    assert len(aws_state.calls) == 1
    clock.advance(COUNTED_SECONDS - 3 * LOOK_SECONDS + 0.1)
    assert await allowed(there, who, 20) == 10, "61 s after the last use, long before the lease would have ended"
    assert 3 * LOOK_SECONDS > IDLE_SECONDS


async def test_a_container_that_closes_gives_back_what_it_has_not_used(
    container: Callable[[], SharedLimiter], clock: HandClock
) -> None:
    here, there = container(), container()
    who = caller(1000)
    assert await allowed(here, who, 1) == 1
    await here.close()
    assert await allowed(there, who, 1000) == 999
    clock.advance(COUNTED_SECONDS)
    assert await allowed(container(), who, 1) == 1


async def test_an_account_is_forgotten_when_nothing_in_it_counts(
    container: Callable[[], SharedLimiter], clock: HandClock
) -> None:
    limiter = container()
    for number in range(20):
        await limiter.take(Caller(identity=f"key:{number}", name="k", requests_per_minute=100))
    assert limiter.accounts == 20

    def over() -> bool:
        clock.advance(LOOK_SECONDS)
        return limiter.accounts == 0

    await until(over, seconds=20)


async def test_who_has_no_key_is_counted_by_the_container(
    container: Callable[[], SharedLimiter], aws_state: StateOfTest
) -> None:
    who = Caller(identity="ip:10.0.0.1")
    assert [await allowed(container(), who, 70), await allowed(container(), who, 70)] == [60, 60]
    assert aws_state.calls == []


async def test_a_limit_that_is_changed_counts_at_once(container: Callable[[], SharedLimiter]) -> None:
    limiter = container()
    assert await allowed(limiter, caller(10), 10) == 10
    assert await allowed(limiter, caller(15), 10) == 5
    assert await allowed(limiter, caller(5), 1) == 0
    reservation = await limiter.reserve(caller(15, tokens=100), 60)
    assert reservation is not None
    assert await limiter.reserve(caller(15), 1000) is None


async def test_while_the_table_is_away_each_container_keeps_the_limit_by_itself(
    clock: HandClock, aws_state: StateOfTest, caplog: pytest.LogCaptureFixture
) -> None:
    table = Cut(aws_state.clients, aws_state.name)
    here, there = (SharedLimiter(table, Limits(), clock, patience=PATIENCE) for _ in range(2))
    who = caller(10)
    assert await allowed(here, who, 2) == 2
    table.away = True
    clock.advance(LEASE_SECONDS)
    with caplog.at_level(logging.INFO):
        assert [await allowed(here, who, 20), await allowed(there, who, 20)] == [8, 10]
        tried = table.tried
        assert await allowed(there, who, 20) == 0
        assert table.tried == tried, "it is not tried for each request"
        table.away = False
        clock.advance(RETRY_SECONDS)
        await allowed(here, who, 1)
        await allowed(there, who, 1)
        await until(lambda: "limits are shared again" in caplog.messages, seconds=20)
    assert sum("cannot be shared" in message for message in caplog.messages) == 2, "once for each container"
    await asyncio.gather(*(allowed(one, who, 1) for one in (here, there)))
    newcomer = SharedLimiter(table, Limits(), clock, patience=PATIENCE)
    assert await allowed(newcomer, who, 10) == 0, "what was used meanwhile counts"
    clock.advance(LEASE_SECONDS + COUNTED_SECONDS)
    assert await allowed(newcomer, who, 20) == 10
    for one in (here, there, newcomer):
        await one.close()


async def test_a_table_that_does_not_answer_holds_a_request_up_once(clock: HandClock, aws_state: StateOfTest) -> None:
    table = Cut(aws_state.clients, aws_state.name)
    table.silent = True
    limiter = SharedLimiter(table, Limits(), clock, patience=3.0)
    first = asyncio.create_task(allowed(limiter, caller(10), 4))
    await until(lambda: clock.pending().count(3.0) == 4, seconds=20)
    clock.advance(3.0)
    assert await first == 4
    assert await allowed(limiter, caller(10), 20) == 6
    table.silent = False
    table.heard.set()
    await limiter.close()


async def test_a_write_whose_answer_is_lost_was_done(clock: HandClock, aws_state: StateOfTest) -> None:
    table = Cut(aws_state.clients, aws_state.name)
    table.twice = True
    limiter = SharedLimiter(table, Limits(), clock, patience=PATIENCE)
    assert await allowed(limiter, caller(10), 10) == 10
    assert aws_state.items()[0]["requests"] == 10
    await limiter.close()


async def test_who_leaves_while_it_waits_has_used_nothing(clock: HandClock, aws_state: StateOfTest) -> None:
    table = Cut(aws_state.clients, aws_state.name)
    table.silent = True
    limiter = SharedLimiter(table, Limits(), clock, patience=PATIENCE)
    waiting = [asyncio.create_task(limiter.take(caller(10))) for _ in range(10)]
    await until(lambda: table.tried == 1, seconds=20)
    for one in waiting[:9]:
        one.cancel()
    await asyncio.gather(*waiting[:9], return_exceptions=True)
    table.silent = False
    table.heard.set()
    await waiting[9]
    assert await allowed(limiter, caller(10), 10) == 9
    await limiter.close()


async def test_containers_that_begin_at_once_all_get_their_part(aws_state: StateOfTest) -> None:
    from web.clock import RealClock

    limiters = [SharedLimiter(aws_state.table, Limits(), RealClock(), patience=PATIENCE) for _ in range(8)]
    passed = await asyncio.gather(*(allowed(one, caller(200), 10) for one in limiters))
    assert passed == [10] * 8
    assert len(aws_state.calls) <= 8 * 8
    await asyncio.gather(*(one.close() for one in limiters))


async def test_the_headers_tell_what_all_containers_have_used(
    serve: Any, engine: ScriptedServer, http: aiohttp.ClientSession, aws_state: StateOfTest, clock: HandClock
) -> None:
    key = {"key": "sk-0123456789abcdef", "name": "one", "rate_limit_per_minute": 6}
    security = Security.model_validate({"enable_auth": True, "api_keys": [key]})
    settings = settings_with().model_copy(update={"security": security})
    made = [SharedLimiter(aws_state.table, settings.limits, clock, patience=PATIENCE) for _ in range(2)]
    urls = [serve(engine, settings=settings, clock=clock, limiter=one).url for one in made]
    headers = {"Authorization": "Bearer sk-0123456789abcdef"}

    async def ask(url: str) -> aiohttp.ClientResponse:
        response = await http.post(url + "/v1/chat/completions", json=chat(stream=False), headers=headers)
        await response.read()
        return response

    assert [rates(await ask(urls[0])) for _ in range(3)] == [("6", str(left), "1m0s") for left in (5, 4, 3)]
    other = await ask(urls[1])
    assert (other.status, rates(other)[0]) == (200, "6")
    assert int(rates(other)[1]) <= 2
    while (refused := await ask(urls[1])).status == 200:
        pass
    assert (refused.status, refused.headers["Retry-After"], rates(refused)[1]) == (429, "60", "0")


class Cut(Table):
    """A table whose calls fail, are not answered, or are answered only at the second try."""

    away = False
    silent = False
    twice = False
    tried = 0

    def __init__(self, clients: Clients, name: str) -> None:
        super().__init__(clients, name)
        self.heard = asyncio.Event()

    async def _call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        from infra.aws import StateUnavailable

        self.tried += 1
        if self.silent:
            await self.heard.wait()
        if self.away:
            raise StateUnavailable("cut")
        if self.twice and operation == "update_item":
            await super()._call(operation, **arguments)
        return await super()._call(operation, **arguments)
