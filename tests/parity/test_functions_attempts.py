"""Attempts at one input: retries, time limits, cancellations, and containers that die under them."""

from __future__ import annotations

import re
import secrets
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import modal
import pytest

if TYPE_CHECKING:
    from tests.parity.kit import DeployedApp, Target


@pytest.fixture
def app(target: Target) -> DeployedApp:
    return target.deploy("attempts.py")


def outcome(call: modal.FunctionCall[Any], *, within: float = 20) -> Any:
    try:
        return call.get(timeout=within)
    except BaseException as error:
        return error


@pytest.mark.row("Functions", "retries")
@pytest.mark.slow
def test_a_failure_is_tried_again_a_second_later_as_often_as_retries_says(app: DeployedApp) -> None:
    attempts = app.function("third_time").remote(1)
    assert len(attempts) == 2
    assert 0.95 <= attempts[1] - attempts[0] < 5


@pytest.mark.row("Functions", "retries")
def test_each_input_of_a_map_is_tried_again_for_itself(app: DeployedApp) -> None:
    assert list(app.function("every_other").map(range(4))) == [0, 10, 20, 30]


@pytest.mark.row("Functions", "retries")
@pytest.mark.slow
def test_the_last_attempt_s_exception_is_the_caller_s(app: DeployedApp) -> None:
    with pytest.raises(RuntimeError, match=r"attempt \d+"):
        app.function("third_time").remote(1000)


@pytest.mark.row("Functions", "modal.Retries")
@pytest.mark.slow
def test_the_first_retry_comes_after_the_initial_delay(app: DeployedApp) -> None:
    [delay] = [later - earlier for earlier, later in pairwise(app.function("slower").remote(""))]
    assert 1.95 <= delay < 6


@pytest.mark.row("Functions", "modal.Retries")
@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"max_retries": -1}, "Function retries must be non-negative"),
        ({"max_retries": 1, "max_delay": 61}, "between 1-60 seconds"),
        ({"max_retries": 1, "initial_delay": -1}, "Delay must be positive"),
        ({"max_retries": 1, "backoff_coefficient": 11.0}, r"between 1\.0"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused_by_the_client(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(modal.exception.InvalidError, match=complaint):
        modal.Retries(**options)


@pytest.mark.row("Functions", "retries")
def test_generators_and_web_functions_have_no_retries() -> None:
    app = modal.App("x")
    with pytest.raises(modal.exception.InvalidError, match="Generator Functions do not support retries"):

        @app.function(retries=1, serialized=True)
        def generator() -> Any:
            yield 1

    with pytest.raises(modal.exception.InvalidError, match="Web Functions do not support retries"):

        @app.function(retries=1, serialized=True)
        @modal.fastapi_endpoint()
        def endpoint() -> None: ...


@pytest.mark.row("Functions", "timeout")
def test_who_hits_the_timeout_is_told_so_in_modal_s_words_and_the_container_goes_on(app: DeployedApp) -> None:
    sleep = app.function("sleep")
    before = sleep.remote(0)
    with pytest.raises(modal.exception.FunctionTimeoutError) as timed_out:
        sleep.remote(30)
    assert re.fullmatch(r"Task's current input in-\w+ hit its timeout of 1s", str(timed_out.value))
    assert sleep.remote(0) == before


@pytest.mark.row("Functions", "timeout")
@pytest.mark.slow
def test_a_container_that_does_not_let_go_of_what_has_timed_out_is_replaced(app: DeployedApp) -> None:
    stubborn = app.function("stubborn")
    before = stubborn.remote(0)
    with pytest.raises(modal.exception.FunctionTimeoutError):
        stubborn.remote(60)
    assert stubborn.remote(0) != before


@pytest.mark.row("Functions", "timeout")
@pytest.mark.slow
def test_a_timeout_is_a_failure_that_retries_pay_for(app: DeployedApp) -> None:
    assert app.function("slow_at_first").remote() == 2


@pytest.mark.row("Functions", "timeout")
@pytest.mark.slow
def test_an_input_that_times_out_leaves_the_others_of_its_container_alone(app: DeployedApp) -> None:
    together = app.function("together")
    late = together.spawn(30)
    together.remote(1)  # so that the other one is still at work when the first has timed out
    other = together.spawn(1.8)
    assert isinstance(outcome(late), modal.exception.FunctionTimeoutError)
    assert other.get(timeout=20) == together.remote(0)


@pytest.mark.row("Functions", "timeout")
def test_a_timeout_beyond_a_day_is_refused(target: Target) -> None:
    app = modal.App(target.unique("long-timeout"))
    app.function(serialized=True, timeout=86_401, name="f")(lambda: None)
    with pytest.raises(modal.exception.InvalidError, match="timeout"):
        app.deploy(client=target.client)


@pytest.mark.row("Functions", "startup_timeout")
@pytest.mark.slow
def test_a_container_that_is_not_ready_in_time_is_an_error_of_those_who_wait(target: Target) -> None:
    with pytest.raises(modal.exception.RemoteError, match="startup timeout of 1s"):
        target.deploy("slow_import.py").function("f").remote()


@pytest.mark.row("Functions", "single_use_containers")
def test_a_single_use_container_takes_one_input(app: DeployedApp) -> None:
    once = app.function("once")
    assert once.remote() != once.remote()


@pytest.mark.row("Functions", "max_inputs")
def test_max_inputs_is_single_use_containers_by_its_old_name() -> None:
    app = modal.App("x")
    with pytest.warns(modal.exception.DeprecationError, match="single_use_containers"):
        app.function(max_inputs=1, serialized=True)
    with pytest.raises(modal.exception.InvalidError, match="Only `max_inputs=1`"):
        app.function(max_inputs=2, serialized=True)


@pytest.mark.row("Functions", "Input cancellation")
@pytest.mark.parametrize(
    ("name", "raised"),
    [
        ("cancelled", "modal.exception.InputCancellation"),
        ("cancelled_async", "asyncio.exceptions.CancelledError"),
    ],
)
def test_code_whose_input_is_cancelled_is_interrupted_and_its_container_goes_on(
    app: DeployedApp, name: str, raised: str
) -> None:
    function = app.function(name)
    call = function.spawn(False)
    while not any("it has begun" in entry.message for entry in function.logs.tail(10)):
        assert function.get_current_stats().num_total_runners <= 1
    call.cancel()
    with pytest.raises(modal.exception.RemoteError, match="cancelled"):
        call.get(timeout=20)
    first, told, container = function.remote(True)
    assert (first, told) == (container, raised)


@pytest.mark.row("Functions", "Container crash")
def test_an_input_whose_container_dies_goes_to_another(app: DeployedApp) -> None:
    assert app.function("crashes_first").remote(secrets.token_hex(8)).startswith("ta-")


@pytest.mark.row("Functions", "Container crash")
def test_a_map_goes_on_when_one_of_its_containers_dies(app: DeployedApp) -> None:
    key = secrets.token_hex(8)
    assert list(app.function("crashes_first_at_two").starmap([(key, n) for n in range(5)])) == [0, 10, 20, 30, 40]


@pytest.mark.row("Functions", "Container crash")
@pytest.mark.slow
def test_a_generator_whose_container_dies_starts_anew_and_nothing_comes_twice(app: DeployedApp) -> None:
    generator = app.function("counts_and_crashes").remote_gen(secrets.token_hex(8), 6)
    assert list(generator) == [0, 1, 2, 3, 4, 5]


@pytest.mark.row("Functions", "Container crash")
@pytest.mark.slow
@pytest.mark.emulator_only("on Modal a deployed app's input is tried again for ever, as its documentation has it")
@pytest.mark.timeout(120)
def test_an_input_that_kills_eight_containers_is_an_internal_failure(app: DeployedApp) -> None:
    with pytest.raises(modal.exception.InternalFailure, match="exit code 7"):
        app.function("ends_with").remote(7)


@pytest.mark.row("Functions", "Container crash")
def test_sys_exit_is_an_exception_like_any_other(app: DeployedApp) -> None:
    with pytest.raises(SystemExit, match="5"):
        app.function("leaves").remote(5)
