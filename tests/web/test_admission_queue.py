"""The queue itself: turns, the time to come back, places given to those who leave, and what a boot does to patience."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.web.conftest import until
from tests.web.doubles import HandClock
from web.admission import Lane, Waiting
from web.errors import EngineOverloaded, EngineStillBooting, to_wire
from web.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Sequence

PATIENT = Waiting(boot=1000, busy=60, pause=5)


def test_callers_take_turns_and_each_keeps_its_own_order() -> None:
    turns: Turns[str] = Turns()
    for item in ("a1", "a2", "a3", "b1", "c1", "b2"):
        turns.add(item[0], item)
    assert [turns.before(item[0], item) for item in ("a1", "b1", "c1", "a2", "b2", "a3")] == [0, 1, 2, 3, 4, 5]
    turns.remove("c", "c1")
    assert taken(turns, 3) == ["a1", "b1", "a2"]
    turns.add("c", "c2")
    assert taken(turns, len(turns)) == ["b2", "a3", "c2"]
    with pytest.raises(IndexError):
        turns.next()


def test_one_caller_alone_is_served_in_order() -> None:
    turns: Turns[int] = Turns()
    for number in range(5):
        turns.add("a", number)
    assert taken(turns, 5) == [0, 1, 2, 3, 4]


def taken(turns: Turns[Any], count: int) -> Sequence[Any]:
    return [turns.next() for _ in range(count)]


async def test_the_time_to_come_back_is_the_measured_one() -> None:
    clock = HandClock()
    lane = Lane(places=1, longest_queue=3, clock=clock)
    await lane.enter("a", arrived=clock.monotonic(), waiting=PATIENT)
    inside = [asyncio.create_task(lane.enter("a", arrived=1000, waiting=PATIENT)) for _ in range(3)]
    await until(lambda: lane.queued == 3)
    for _ in range(3):
        clock.advance(7)
        lane.leave()
    await asyncio.gather(*inside)
    waiting = [asyncio.create_task(lane.enter("a", arrived=1021, waiting=PATIENT)) for _ in range(3)]
    await until(lambda: lane.queued == 3)
    with pytest.raises(EngineOverloaded) as refused:
        await lane.enter("a", arrived=1021, waiting=PATIENT)
    assert refused.value.retry_after == pytest.approx(4 * 7)
    assert to_wire(refused.value).headers["Retry-After"] == "28"
    clock.advance(1000)
    assert lane.expected(1) == pytest.approx(1000), "what has not got free for so long will not be free sooner"
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert lane.queued == 0


async def test_a_place_given_to_one_who_is_leaving_goes_to_the_next() -> None:
    clock = HandClock()
    lane = Lane(places=1, longest_queue=3, clock=clock)
    await lane.enter("a", arrived=1000, waiting=PATIENT)
    leaver, next_one = (asyncio.create_task(lane.enter("a", arrived=1000, waiting=PATIENT)) for _ in range(2))
    await until(lambda: lane.queued == 2)
    lane.leave()
    leaver.cancel()  # it has been granted the place, and has not run since
    await asyncio.gather(leaver, return_exceptions=True)
    await asyncio.wait_for(next_one, 30)
    lane.leave()
    assert (lane.taken, lane.queued) == (0, 0)


async def test_the_queue_of_a_model_that_never_comes_up_ends_with_that(clock: HandClock) -> None:
    lane = Lane(places=1, longest_queue=3, clock=clock)
    await lane.enter("a", arrived=1000, waiting=PATIENT)
    lane.came("booting")
    lane.found_cold(1000)
    waiting = asyncio.create_task(lane.enter("a", arrived=1000, waiting=PATIENT))
    await until(lambda: lane.queued == 1)
    while not waiting.done():
        await asyncio.sleep(0)
        clock.advance(5)
    with pytest.raises(EngineStillBooting):
        waiting.result()


async def test_a_boot_does_not_count_as_waiting_for_a_busy_model(clock: HandClock) -> None:
    lane = Lane(places=1, longest_queue=3, clock=clock)
    await lane.enter("a", arrived=1000, waiting=PATIENT)
    lane.found_cold(1000)
    waiting = asyncio.create_task(lane.enter("a", arrived=1000, waiting=PATIENT))
    await until(lambda: lane.queued == 1)
    clock.advance(300)
    assert lane.found_warm(clock.monotonic()) == 300
    for _ in range(11):
        clock.advance(5)
        await asyncio.sleep(0.002)
    assert not waiting.done()
    clock.advance(5)
    with pytest.raises(EngineOverloaded):
        await waiting
