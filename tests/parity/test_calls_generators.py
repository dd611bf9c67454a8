"""Functions that yield."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.parity.kit import Target

BOTH = pytest.mark.parametrize("name", ["count", "acount"])


@pytest.mark.row("Calls", ".remote_gen")
@BOTH
def test_items_come_in_order_and_end_with_the_generator(target: Target, name: str) -> None:
    generator = target.deploy("calls.py").function(name)
    assert list(generator.remote_gen(5)) == [0, 1, 2, 3, 4]
    assert list(generator.remote_gen(0)) == []


@pytest.mark.row("Calls", ".remote_gen")
async def test_items_can_be_awaited(target: Target) -> None:
    acount = target.deploy("calls.py").function("acount")
    assert [item async for item in acount.remote_gen.aio(3)] == [0, 1, 2]


@pytest.mark.row("Calls", ".remote_gen")
def test_many_items_come_whole(target: Target) -> None:
    assert list(target.deploy("calls.py").function("count").remote_gen(1000)) == list(range(1000))


@pytest.mark.row("Calls", ".remote_gen that raises")
@BOTH
def test_an_exception_comes_after_the_items_before_it(target: Target, name: str) -> None:
    items = []
    with pytest.raises(ValueError, match="no more than 3"):
        for item in target.deploy("calls.py").function(name).remote_gen(10, stop_at=3):
            items.append(item)
    assert items == [0, 1, 2]


@pytest.mark.row("Calls", ".remote_gen that is closed early")
@BOTH
def test_a_consumer_may_close_a_generator_and_its_function_can_be_called_again(target: Target, name: str) -> None:
    generator = target.deploy("calls.py").function(name)
    items = generator.remote_gen(50)
    assert [next(items), next(items)] == [0, 1]
    items.close()
    assert list(generator.remote_gen(2)) == [0, 1]


@pytest.mark.slow
@pytest.mark.row("Calls", ".remote_gen that is closed early")
@pytest.mark.emulator_only("where it is said how long a reader is waited for")
def test_a_generator_whose_consumer_has_left_runs_to_its_end(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emulator.protocol.containers.READER_AWAITED", 0.1)
    flood = target.deploy("calls.py").function("flood")
    items = flood.remote_gen(30)
    next(items)
    items.close()
    target.emulator.wait(lambda: flood.get_current_stats().num_running_inputs == 0, within=30)
