"""Inputs that share a container: `@modal.concurrent` and `@modal.batched`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import modal
import pytest

if TYPE_CHECKING:
    from tests.parity.kit import DeployedApp, Target


@pytest.fixture
def app(target: Target) -> DeployedApp:
    return target.deploy("together.py")


def outcome(call: modal.FunctionCall[Any]) -> Any:
    try:
        return call.get(timeout=30)
    except Exception as error:
        return error


@pytest.mark.row("Functions", "@modal.concurrent")
def test_plain_code_runs_side_by_side_in_threads_of_one_container(app: DeployedApp) -> None:
    found = list(app.function("in_threads").map(range(3)))
    assert len({container for container, _ in found}) == 1
    assert len({thread for _, thread in found}) == 3


@pytest.mark.row("Functions", "@modal.concurrent")
def test_async_code_runs_side_by_side_in_one_thread_and_never_more_than_max_inputs(app: DeployedApp) -> None:
    found = list(app.function("in_tasks").map(range(9)))
    assert len({(container, thread) for container, thread, _ in found}) == 1
    assert max(most for _, _, most in found) == 4


@pytest.mark.row("Functions", "@modal.concurrent")
@pytest.mark.slow
def test_containers_are_started_for_the_target_and_filled_up_to_the_maximum(app: DeployedApp) -> None:
    containers = list(app.function("aimed").map(range(12)))
    assert 1 < len(set(containers)) <= 4


@pytest.mark.row("Functions", "@modal.concurrent")
def test_a_target_above_the_maximum_is_refused_by_the_client() -> None:
    app = modal.App("x")
    with pytest.raises(modal.exception.InvalidError, match="target_inputs"):
        app.function(serialized=True, name="f")(modal.concurrent(max_inputs=2, target_inputs=3)(lambda: None))


@pytest.mark.row("Functions", "Input cancellation")
@pytest.mark.slow
def test_async_code_is_cancelled_alone_among_those_beside_it(app: DeployedApp) -> None:
    function = app.function("cancellable")
    container = function.remote(0)
    dropped, kept = function.spawn(60), function.spawn(1)
    while function.get_current_stats().num_running_inputs < 2:
        pass
    dropped.cancel()
    assert isinstance(outcome(dropped), modal.exception.RemoteError)
    assert function.remote(0) == container
    assert kept.get(timeout=20) == container


@pytest.mark.row("Functions", "Input cancellation")
@pytest.mark.slow
def test_a_cancelled_thread_takes_its_container_along_and_the_others_move_to_another(app: DeployedApp) -> None:
    function = app.function("interrupted")
    container = function.remote(0)
    dropped, kept = function.spawn(60), function.spawn(4)
    while function.get_current_stats().num_running_inputs < 2:
        pass
    dropped.cancel()
    assert isinstance(outcome(dropped), modal.exception.RemoteError)
    assert kept.get(timeout=30) != container


@pytest.mark.row("Functions", "@modal.batched")
def test_inputs_are_gathered_into_batches_and_each_gets_its_own_result(app: DeployedApp) -> None:
    found = list(app.function("batch").starmap([(n, 10) for n in range(4)]))
    assert [product for product, *_ in found] == [0, 10, 20, 30]
    assert {len(batch) for _, *batch in found} <= {1, 2, 3}
    assert [sorted(batch) for _, *batch in found[:3]] == [[0, 1, 2]] * 3
    assert found[3] == [30, 3]


@pytest.mark.row("Functions", "@modal.batched")
def test_a_batch_that_is_not_full_goes_when_its_time_is_up(app: DeployedApp) -> None:
    assert app.function("batch").remote(7, 2) == [14, 7]


@pytest.mark.row("Functions", "@modal.batched")
@pytest.mark.parametrize(
    ("inputs", "kind", "complaint"),
    [
        (["short", "x"], "InvalidError", "must be a list of equal length as its inputs"),
        (["tuple", "x"], "InvalidError", "must be a list"),
        (["raise", "x"], "KeyError", "one for all"),
    ],
)
def test_what_goes_wrong_with_a_batch_is_every_one_s_of_its_inputs(
    app: DeployedApp, inputs: list[str], kind: str, complaint: str
) -> None:
    errors = list(app.function("wrong").map(inputs, return_exceptions=True))
    assert [type(error).__name__ for error in errors] == [kind] * 2
    assert all(complaint in str(error) for error in errors)


@pytest.mark.row("Functions", "@modal.batched")
def test_a_method_may_be_batched(app: DeployedApp) -> None:
    assert list(app.cls("Batched")().double.map([1, 2])) == [[2, 2], [4, 2]]


@pytest.mark.row("Functions", "@modal.batched")
@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"max_batch_size": 0, "wait_ms": 1}, "max_batch_size must be a positive"),
        ({"max_batch_size": 1001, "wait_ms": 1}, "max_batch_size cannot be greater than"),
        ({"max_batch_size": 1, "wait_ms": -1}, "wait_ms must be a non-negative"),
        ({"max_batch_size": 1, "wait_ms": 600_001}, "wait_ms cannot be greater than"),
    ],
)
def test_batches_that_make_no_sense_are_refused_by_the_client(arguments: dict[str, int], complaint: str) -> None:
    with pytest.raises(modal.exception.InvalidError, match=complaint):
        modal.batched(**arguments)
