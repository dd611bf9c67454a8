"""`.map` and its kin."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import pytest
from modal.exception import DeprecationError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.parity.kit import Target


@pytest.mark.row("Calls", ".map")
def test_map_gives_the_results_in_the_order_of_the_inputs(target: Target) -> None:
    wait = target.deploy("calls.py").function("wait")
    assert list(wait.map([0.3, 0.0, 0.1])) == [0.3, 0.0, 0.1]


@pytest.mark.row("Calls", ".map")
def test_map_over_nothing_is_nothing(target: Target) -> None:
    assert list(target.deploy("calls.py").function("add").map([])) == []


@pytest.mark.row("Calls", ".map(order_outputs=False)")
def test_map_can_give_the_results_as_they_come(target: Target) -> None:
    wait = target.deploy("calls.py").function("wait")
    assert list(wait.map([0.5, 0.0], order_outputs=False)) == [0.0, 0.5]


@pytest.mark.row("Calls", ".map over several iterators, kwargs")
def test_map_takes_an_iterator_for_each_argument_up_to_the_shortest(target: Target) -> None:
    add = target.deploy("calls.py").function("add")
    assert list(add.map([1, 2, 3], iter([10, 20]))) == [11, 22]
    assert list(add.map([1, 2], kwargs={"y": 5})) == [6, 7]


@pytest.mark.row("Calls", ".map")
def test_an_exception_ends_a_map(target: Target) -> None:
    with pytest.raises(ValueError, match="1 is odd"):
        list(target.deploy("calls.py").function("even").map([0, 1, 2]))


@pytest.mark.row("Calls", ".map(return_exceptions=True)")
def test_exceptions_can_be_results(target: Target) -> None:
    results = list(target.deploy("calls.py").function("even").map(range(4), return_exceptions=True))
    assert (results[0], results[2]) == (0, 2)
    assert [repr(error) for error in results[1::2]] == ["ValueError('1 is odd')", "ValueError('3 is odd')"]


@pytest.mark.row("Calls", ".map(wrap_returned_exceptions=…)")
def test_wrapping_of_exceptions_has_no_effect_any_more_and_says_so(target: Target) -> None:
    even = target.deploy("calls.py").function("even")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        (error,) = even.map([1], return_exceptions=True, wrap_returned_exceptions=True)
    assert type(error) is ValueError
    assert [warning.category for warning in told if "wrap_returned" in str(warning.message)] == [DeprecationError]


@pytest.mark.row("Calls", ".map that its consumer breaks off")
def test_inputs_are_asked_for_as_results_are_taken_and_a_consumer_may_stop(target: Target) -> None:
    add = target.deploy("calls.py").function("add")

    def endless() -> Iterator[int]:
        number = 0
        while True:
            yield number
            number += 1

    taken = []
    for result in add.map(endless(), kwargs={"y": 0}):
        taken.append(result)
        if len(taken) == 5:
            break
    assert taken == [0, 1, 2, 3, 4]
    assert add.remote(1) == 101  # what is left over stands in nobody's way


@pytest.mark.row("Calls", ".map.aio")
async def test_an_async_map_takes_async_iterators(target: Target) -> None:
    add = target.deploy("calls.py").function("add")

    async def numbers() -> AsyncIterator[int]:
        for number in range(3):
            yield number

    assert [result async for result in add.map.aio(numbers(), [7, 8, 9])] == [7, 9, 11]


@pytest.mark.row("Calls", ".starmap")
def test_starmap_spreads_each_input_over_the_arguments(target: Target) -> None:
    add = target.deploy("calls.py").function("add")
    assert list(add.starmap([(1, 2), (3, 4), (5,)])) == [3, 7, 105]


@pytest.mark.row("Calls", ".for_each")
def test_for_each_waits_for_all_and_raises_unless_told_otherwise(target: Target) -> None:
    even = target.deploy("calls.py").function("even")
    assert even.for_each([0, 2]) is None
    assert even.for_each([0, 1], ignore_exceptions=True) is None
    with pytest.raises(ValueError, match="1 is odd"):
        even.for_each([0, 1])
