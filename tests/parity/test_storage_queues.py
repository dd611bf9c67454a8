"""`modal.Queue`, from outside and from containers."""

from __future__ import annotations

import asyncio
import queue as stdlib
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import modal
import pytest

from tests.parity.web_kit import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.parity.kit import Target


@pytest.fixture(scope="module")
def shared(target: Target) -> Iterator[modal.Queue]:
    name = f"queue-{target.session}"
    yield modal.Queue.from_name(name, create_if_missing=True, client=target.client).hydrate()
    modal.Queue.objects.delete(name, client=target.client, allow_missing=True)


@pytest.fixture
def empty(shared: modal.Queue) -> modal.Queue:
    shared.clear(all=True)
    return shared


@pytest.mark.row("Storage", "Queue: put, get")
def test_what_is_put_first_comes_first(empty: modal.Queue) -> None:
    for value in ("a", {"b": 1}, None, 4):
        empty.put(value)
    assert [empty.get() for _ in range(4)] == ["a", {"b": 1}, None, 4]


@pytest.mark.row("Storage", "Queue: put, get")
def test_an_empty_queue_gives_none_to_who_does_not_wait(empty: modal.Queue) -> None:
    assert empty.get(block=False) is None
    assert empty.get_many(3, block=False) == []


@pytest.mark.row("Storage", "Queue: get that waits")
def test_an_empty_queue_keeps_who_waits_until_something_comes(empty: modal.Queue) -> None:
    with ThreadPoolExecutor(1) as pool:
        getter = pool.submit(empty.get, timeout=30)
        empty.put("late")
        assert getter.result(timeout=30) == "late"


@pytest.mark.row("Storage", "Queue: get that waits")
def test_waiting_in_vain_is_the_standard_library_s_empty(empty: modal.Queue) -> None:
    for wait in (lambda: empty.get(timeout=0.05), lambda: empty.get_many(2, timeout=0.05)):
        with pytest.raises(stdlib.Empty):
            wait()


@pytest.mark.row("Storage", "Queue: get_many, put_many")
def test_many_items_are_put_and_got_at_once_in_their_order(empty: modal.Queue) -> None:
    empty.put_many(list(range(10)))
    assert empty.get_many(4) == [0, 1, 2, 3]
    assert empty.get_many(100) == [4, 5, 6, 7, 8, 9]


@pytest.mark.row("Storage", "Queue: partitions")
def test_partitions_are_queues_of_their_own(empty: modal.Queue) -> None:
    empty.put(0)
    empty.put_many([1, 2], partition="a")
    assert empty.get(partition="b", block=False) is None
    assert [empty.len(), empty.len(partition="a"), empty.len(partition="b"), empty.len(total=True)] == [1, 2, 0, 3]
    assert empty.get_many(9, partition="a") == [1, 2]
    assert empty.get() == 0


@pytest.mark.row("Storage", "Queue: partitions")
@pytest.mark.parametrize("name", ["", "x" * 65, "\N{GREEK SMALL LETTER ALPHA}" * 33])
def test_a_partition_s_name_has_1_to_64_bytes(empty: modal.Queue, name: str) -> None:
    with pytest.raises(modal.exception.InvalidError, match="between 1 and 64"):
        empty.put(1, partition=name)


@pytest.mark.slow
@pytest.mark.row("Storage", "Queue: partition_ttl")
def test_a_partition_is_cleared_once_its_time_is_over(empty: modal.Queue) -> None:
    empty.put(1, partition="short", partition_ttl=1)
    empty.put(2, partition="long")
    until(lambda: empty.len(partition="short") == 0)
    assert empty.get(partition="short", block=False) is None
    assert empty.get(partition="long") == 2


@pytest.mark.row("Storage", "Queue: partition_ttl")
def test_a_partition_lasts_for_up_to_a_day(empty: modal.Queue) -> None:
    with pytest.raises(modal.exception.InvalidError, match="partition_ttl"):
        empty.put(1, partition_ttl=24 * 3600 + 1)


@pytest.mark.row("Storage", "Queue: iterate")
def test_items_are_looked_at_where_they_are(empty: modal.Queue) -> None:
    empty.put_many(["a", "b", "c"])
    assert list(empty.iterate()) == ["a", "b", "c"]
    assert empty.len() == 3
    assert list(empty.iterate(partition="other")) == []


@pytest.mark.row("Storage", "Queue: iterate")
def test_who_looks_may_wait_for_what_comes(empty: modal.Queue) -> None:
    empty.put(1)
    seen, first = [], threading.Event()

    def look() -> None:
        for item in empty.iterate(item_poll_timeout=20):
            seen.append(item)
            first.set()
            if item == 2:
                return

    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(look)
        assert first.wait(30)
        empty.put(2)
        looking.result(timeout=30)
    assert seen == [1, 2]


@pytest.mark.row("Storage", "Queue: len, clear")
def test_one_partition_is_cleared_or_all(empty: modal.Queue) -> None:
    for partition in (None, "a", "b"):
        empty.put_many([1, 2], partition=partition)
    empty.clear(partition="a")
    assert (empty.len(partition="a"), empty.len(total=True)) == (0, 4)
    empty.clear()
    assert (empty.len(), empty.len(total=True)) == (0, 2)
    empty.clear(all=True)
    assert empty.len(total=True) == 0
    with pytest.raises(modal.exception.InvalidError):
        empty.clear(partition="a", all=True)


@pytest.mark.row("Storage", "Queue: limits")
def test_a_partition_has_up_to_5000_items_and_is_then_full(empty: modal.Queue) -> None:
    empty.put_many([0] * 5000)
    with pytest.raises(stdlib.Full):
        empty.put(1, block=False)
    with pytest.raises(stdlib.Full):
        empty.put(1, timeout=0.05)
    empty.put(1, partition="other", block=False)
    with ThreadPoolExecutor(1) as pool:
        putting = pool.submit(empty.put, "at last", timeout=30)
        assert empty.get() == 0
        putting.result(timeout=30)
    assert empty.get_many(5000)[-1] == "at last"


@pytest.mark.row("Storage", "Queue: limits")
def test_an_item_has_up_to_1_mib(empty: modal.Queue) -> None:
    empty.put(bytes((1 << 20) - 100))
    assert len(empty.get()) == (1 << 20) - 100
    with pytest.raises(modal.exception.InvalidError, match="1 MiB"):
        empty.put(bytes(1 << 20))
    assert empty.len() == 0


@pytest.mark.slow
@pytest.mark.row("Storage", "Queue: limits")
def test_a_partition_has_up_to_64_mib(empty: modal.Queue) -> None:
    item = bytes((1 << 20) - 100)
    empty.put_many([item] * 64)
    with pytest.raises(stdlib.Full, match="64 MiB"):
        empty.put(item, block=False)
    empty.clear()
    with pytest.raises(modal.exception.RequestSizeError, match=r"Queue\.put_many request is too large"):
        empty.put_many([item] * 65)
    assert empty.len() == 0


@pytest.mark.row("Storage", "Queue: asynchronous")
async def test_all_of_it_can_be_awaited(empty: modal.Queue) -> None:
    await empty.put.aio(1)
    await empty.put_many.aio([2, 3])
    assert await empty.len.aio() == 3
    assert [item async for item in empty.iterate.aio()] == [1, 2, 3]
    assert await empty.get.aio() == 1
    assert await empty.get_many.aio(5) == [2, 3]
    await empty.clear.aio()


@pytest.mark.row("Storage", "Queue: many getters")
async def test_many_getters_have_every_item_once_and_each_its_own_in_order(empty: modal.Queue) -> None:
    async def getter() -> list[int]:
        found = []
        while (number := await empty.get.aio(timeout=30)) is not None:
            found.append(number)
        return found

    getters = [asyncio.create_task(getter()) for _ in range(8)]
    for start in range(0, 100, 20):
        await empty.put_many.aio(list(range(start, start + 20)))
    await empty.put_many.aio([None] * 8)
    found = await asyncio.gather(*getters)
    assert sorted(number for numbers in found for number in numbers) == list(range(100))
    assert all(numbers == sorted(numbers) for numbers in found)


@pytest.mark.row("Storage", "Queue: a getter that leaves")
async def test_who_has_left_gets_nothing_and_whoever_comes_next_does(empty: modal.Queue) -> None:
    leaving = [asyncio.create_task(empty.get.aio()) for _ in range(4)]
    await empty.put.aio(0)
    await asyncio.wait(leaving, return_when=asyncio.FIRST_COMPLETED)  # one has come, so the others are there or near
    for task in leaving:
        task.cancel()
    await asyncio.gather(*leaving, return_exceptions=True)
    await empty.put_many.aio([1, 2, 3])
    assert [await empty.get.aio(timeout=30) for _ in range(3)] == [1, 2, 3]


@pytest.mark.slow
@pytest.mark.row("Storage", "Queue: a getter that leaves")
@pytest.mark.emulator_only("it kills a container")
def test_a_container_that_dies_while_it_waits_takes_nothing_along(target: Target, empty: modal.Queue) -> None:
    app, emulator = target.deploy("storing.py"), target.emulator
    call = app.function("taker").spawn(empty)

    def waiting() -> list[str]:
        infos = emulator.containers(app=app.name, function="taker")
        return [info.task_id for info in infos if info.active]

    emulator.wait(lambda: bool(waiting()), within=30)
    (killed,) = waiting()
    emulator.kill_container(killed)
    emulator.wait(lambda: waiting() not in ([], [killed]), within=30)
    empty.put("mine")
    assert call.get(timeout=60) == "mine"


@pytest.mark.row("Storage", "Queue.from_name, from_id")
def test_a_queue_is_found_by_its_name_and_by_its_id(target: Target, empty: modal.Queue) -> None:
    name = f"missing-{target.session}"
    with pytest.raises(modal.exception.NotFoundError, match=name):
        modal.Queue.from_name(name, client=target.client).hydrate()
    empty.put(1)
    assert modal.Queue.from_id(empty.object_id, client=target.client).get() == 1
    with pytest.raises(modal.exception.NotFoundError):
        modal.Queue.from_id("qu-" + "x" * 22, client=target.client).hydrate()


@pytest.mark.row("Storage", "Queue.objects, info")
def test_queues_are_created_listed_and_deleted(target: Target) -> None:
    name, objects, client = f"listed-{target.session}", modal.Queue.objects, target.client
    objects.create(name, client=client)
    with pytest.raises(modal.exception.AlreadyExistsError, match=name):
        objects.create(name, client=client)
    objects.create(name, client=client, allow_existing=True)
    found = next(queue for queue in objects.list(client=client) if queue.name == name)
    assert found.info().name == name
    assert found.info().created_by
    objects.delete(name, client=client)
    with pytest.raises(modal.exception.NotFoundError):
        found.len()
    objects.delete(name, client=client, allow_missing=True)


@pytest.mark.row("Storage", "Queue.objects, info")
def test_who_waits_at_a_queue_that_is_deleted_is_told(target: Target) -> None:
    name = f"deleted-{target.session}"
    queue = modal.Queue.from_name(name, create_if_missing=True, client=target.client).hydrate()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(queue.get)
        modal.Queue.objects.delete(name, client=target.client)
        with pytest.raises(modal.exception.NotFoundError):
            waiting.result(timeout=60)


@pytest.mark.row("Storage", "Queue.ephemeral")
def test_an_ephemeral_queue_has_no_name_and_is_in_no_list(target: Target) -> None:
    with modal.Queue.ephemeral(client=target.client) as first, modal.Queue.ephemeral(client=target.client) as second:
        first.put(1)
        assert (first.get(), second.len(), first.info().name) == (1, 0, None)
        assert first.object_id not in [found.object_id for found in modal.Queue.objects.list(client=target.client)]


@pytest.mark.row("Storage", "Dicts and Queues as values")
def test_two_functions_meet_at_a_queue_that_they_are_given(target: Target, empty: modal.Queue) -> None:
    app = target.deploy("storing.py")
    with modal.Dict.ephemeral(client=target.client) as found:
        relaying = app.function("relay").spawn(empty, found, 20)
        producer = app.function("produce").remote(empty.object_id, 20)
        assert relaying.get(timeout=60) != producer
        assert dict(found.items()) == {number: number * number for number in range(20)}


@pytest.mark.row("Storage", "Dicts and Queues in containers")
def test_asynchronous_containers_wait_at_one_queue_and_fill_another(target: Target, empty: modal.Queue) -> None:
    with modal.Queue.ephemeral(client=target.client) as results:
        working = target.deploy("storing.py").function("doubled").spawn(empty, results, 20)
        empty.put_many(list(range(20)))
        working.get(timeout=60)
        assert results.get_many(20) == list(range(0, 40, 2))
