"""Who waits at a Queue: in which order they are served, and that nothing is lost with those who leave."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.storage.lines import QueueGoneError, QueueLines
from emulator.storage.queues import QueueContents
from tests.emulator.heart_kit import TurnedClock, settle

if TYPE_CHECKING:
    from emulator.storage.queues import Taken

ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(1, 4)),
        st.tuples(st.just("wait"), st.integers(1, 3)),
        st.tuples(st.just("leave"), st.integers(0, 4)),
        st.tuples(st.just("leave as it is given"), st.integers(0, 4)),
        st.tuples(st.just("undelivered"), st.integers(0, 9)),
        st.tuples(st.just("time"), st.sampled_from([4, 30])),
    ),
    max_size=40,
)


class Place:
    """A Queue that goes on for ever, and its getters."""

    def __init__(self) -> None:
        self.clock = TurnedClock()
        self.lines = QueueLines(QueueContents(), self.clock)
        self.waiting: list[asyncio.Task[Taken]] = []
        self.arrived: list[Taken] = []
        self.count = 0

    def put(self, count: int) -> None:
        values = [b"%06d" % number for number in range(self.count, self.count + count)]
        self.count += count
        self.lines.put(b"", values, ttl=1e9)

    def getter(self, count: int = 1, timeout: float = 20.0) -> asyncio.Task[Taken]:
        task = asyncio.create_task(self.lines.take(b"", count, timeout))
        self.waiting.append(task)
        return task

    async def settled(self) -> None:
        await settle()
        for task in [task for task in self.waiting if task.done()]:
            self.waiting.remove(task)
            if not task.cancelled() and task.result().items:
                self.arrived.append(task.result())

    def there(self) -> list[int]:
        return [int(item.value) for item in self.lines.contents.after(b"", 0, self.clock.time())]

    def got(self) -> list[int]:
        return [int(item.value) for taken in self.arrived for item in taken.items]


@settings(max_examples=60, deadline=None)
@given(ACTIONS)
def test_whoever_comes_and_leaves_nothing_is_lost_or_given_twice(actions: list[tuple[str, int]]) -> None:
    async def run() -> None:
        place = Place()
        for action, number in actions:
            if action == "put":
                place.put(number)
            elif action == "wait":
                place.getter(number)
            elif action.startswith("leave") and number < len(place.waiting):
                if action == "leave as it is given":
                    place.put(1)
                place.waiting[number].cancel()
            elif action == "undelivered" and number < len(place.arrived):
                place.lines.put_back(b"", place.arrived.pop(number))
            elif action == "time":
                await place.clock.turn(number)
            await place.settled()
            assert sorted([*place.got(), *place.there()]) == list(range(place.count))
            assert place.there() == sorted(place.there())
            assert not (place.there() and place.waiting), "somebody waits for what is there"
        for task in place.waiting:
            task.cancel()

    asyncio.run(run())


async def test_those_who_wait_are_served_in_the_order_in_which_they_came() -> None:
    place = Place()
    getters = [place.getter(count) for count in (1, 2, 1)]
    await settle()
    place.put(2)
    place.put(2)
    given = [[int(item.value) for item in (await getter).items] for getter in getters]
    assert given == [[0], [1], [2]]
    assert place.there() == [3]


async def test_who_does_not_wait_does_not_get_what_others_wait_for() -> None:
    place = Place()
    first = place.getter()
    await settle()
    assert not (await place.lines.take(b"", 1, 0)).items
    place.put(1)
    assert not (await place.lines.take(b"", 1, 0)).items
    assert len((await first).items) == 1


async def test_waiting_ends_with_its_time() -> None:
    place = Place()
    getter, reader = place.getter(timeout=5), asyncio.create_task(place.lines.after(b"", 0, 5))
    await place.clock.turn(4.9)
    assert not getter.done()
    assert not reader.done()
    await place.clock.turn(0.1)
    assert not (await getter).items
    assert await reader == []


async def test_who_looks_sees_what_comes_and_takes_nothing() -> None:
    place = Place()
    reader = asyncio.create_task(place.lines.after(b"", 0, 5))
    await settle()
    place.put(1)
    assert [int(item.value) for item in await reader] == place.there() == [0]


async def test_when_the_queue_is_gone_nobody_waits_on() -> None:
    place = Place()
    getter, reader = place.getter(), asyncio.create_task(place.lines.after(b"", 0, 5))
    await settle()
    place.lines.close()
    for waiting in (getter, reader):
        with pytest.raises(QueueGoneError):
            await waiting
