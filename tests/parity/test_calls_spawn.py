"""Calls that nobody waits for, and what can be asked of them later."""

from __future__ import annotations

import secrets
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import modal
import pytest
from modal.exception import OutputExpiredError, RemoteError
from modal.types import InputStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.parity.kit import Target


def eventually(condition: Callable[[], bool], *, within: float = 30.0) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


@pytest.mark.row("Calls", ".spawn")
@pytest.mark.row("Calls", "FunctionCall.get(timeout=…)")
def test_a_spawned_calls_result_is_waited_for_as_long_as_one_likes(target: Target) -> None:
    wait = target.deploy("calls.py").function("wait")
    call = wait.spawn(0.6)
    for patience in (0, 0.1):
        with pytest.raises(TimeoutError):
            call.get(timeout=patience)
    assert call.get(timeout=30) == 0.6
    assert (call.get(), call.get(timeout=0)) == (0.6, 0.6)  # as often as one likes
    assert call.num_inputs() == 1


@pytest.mark.row("Calls", "FunctionCall.get(timeout=…)")
def test_a_spawned_calls_exception_is_raised_by_get(target: Target) -> None:
    call = target.deploy("calls.py").function("even").spawn(5)
    for _ in range(2):
        with pytest.raises(ValueError, match="5 is odd"):
            call.get()


@pytest.mark.row("Calls", "FunctionCall.from_id")
def test_a_call_outlives_the_client_that_spawned_it(target: Target) -> None:
    app = target.deploy("calls.py")
    program = f"import modal; print(modal.Function.from_name({app.name!r}, 'sleep').spawn(0.2).object_id)"
    spawned = subprocess.run(
        [sys.executable, "-c", program], env=dict(target.environment), capture_output=True, text=True, check=True
    )
    call: modal.FunctionCall[Any] = modal.FunctionCall.from_id(spawned.stdout.strip(), client=target.client)
    assert call.get(timeout=30) == 0.2
    assert call.num_inputs() == 1


@pytest.mark.row("Calls", "FunctionCall.from_id")
def test_a_call_that_never_was_is_not_found(target: Target) -> None:
    call: modal.FunctionCall[Any] = modal.FunctionCall.from_id("fc-" + "0" * 22, client=target.client)
    with pytest.raises(modal.exception.NotFoundError, match="fc-0000"):
        call.get()


@pytest.mark.row("Calls", "results that expire")
@pytest.mark.emulator_only("nobody waits seven days")
def test_a_result_that_has_expired_is_said_to_have(target: Target) -> None:
    call = target.deploy("calls.py").function("wait").spawn(0)
    assert call.get() == 0
    target.emulator.core.calls.forget(call.object_id)
    for patience in (0, 0.1):
        with pytest.raises(OutputExpiredError):
            call.get(timeout=patience)
    again: modal.FunctionCall[Any] = modal.FunctionCall.from_id(call.object_id, client=target.client)
    assert again.num_inputs() == 1
    again.cancel()


@pytest.mark.row("Calls", "FunctionCall.cancel")
def test_a_cancelled_call_ends_also_where_it_has_not_begun(target: Target) -> None:
    sleep = target.deploy("calls.py").function("sleep")
    running, queued = sleep.spawn(60), sleep.spawn(60)
    eventually(lambda: sleep.get_current_stats().num_running_inputs == 1)
    for call in (queued, running):
        call.cancel()
        with pytest.raises(RemoteError, match="cancelled"):
            call.get(timeout=40)
        call.cancel()  # again: harmless
    assert sleep.remote(0) == 0


@pytest.mark.row("Calls", "FunctionCall.cancel(terminate_containers=True)")
def test_containers_can_be_terminated_with_a_call_and_their_other_inputs_go_elsewhere(target: Target) -> None:
    container = target.deploy("calls.py").function("container")
    first = container.remote(0)
    victim, other = container.spawn(60), container.spawn(1)
    eventually(lambda: container.get_current_stats().num_running_inputs == 2)
    victim.cancel(terminate_containers=True)
    with pytest.raises(RemoteError, match="cancelled"):
        victim.get(timeout=40)
    assert other.get(timeout=30) not in ("", first)


@pytest.mark.row("Calls", "FunctionCall.gather")
def test_results_of_several_calls_are_gathered_in_order_and_the_first_failure_is_raised(target: Target) -> None:
    app = target.deploy("calls.py")
    even, wait = app.function("even"), app.function("wait")
    assert modal.FunctionCall.gather(wait.spawn(0.2), wait.spawn(0), even.spawn(2)) == [0.2, 0, 2]
    with pytest.raises(ValueError, match="1 is odd"):
        modal.FunctionCall.gather(even.spawn(1), wait.spawn(0))


@pytest.mark.row("Calls", ".spawn_map")
def test_spawn_map_starts_a_call_for_each_input(target: Target) -> None:
    note = target.deploy("calls.py").function("note")
    folder = secrets.token_hex(4)
    names = [f"{number:02}" for number in range(20)]
    note.spawn_map([folder] * len(names), names)
    eventually(lambda: note.remote(folder) == names)


@pytest.mark.row("Calls", ".experimental_spawn_map")
@pytest.mark.row("Calls", "FunctionCall.iter, num_inputs")
def test_a_spawned_map_is_one_call_whose_results_have_an_order(target: Target) -> None:
    app = target.deploy("calls.py")
    call = app.function("wait").experimental_spawn_map([0.3, 0.0, 0.2, 0.1])
    assert call.num_inputs() == 4
    assert list(call.iter()) == [0.3, 0.0, 0.2, 0.1]
    again: modal.FunctionCall[Any] = modal.FunctionCall.from_id(call.object_id, client=target.client)
    assert again.num_inputs() == 4
    assert list(again.iter(start=1, end=3)) == [0.0, 0.2]
    assert (again.get(index=3), again.get(index=0)) == (0.1, 0.3)
    with pytest.raises(ValueError, match="Invalid index range"):
        list(again.iter(end=5))


@pytest.mark.row("Calls", "FunctionCall.get_call_graph")
def test_a_call_graph_shows_what_called_what(target: Target) -> None:
    app = target.deploy("calls.py")
    call = app.function("spread").spawn(2)
    assert call.get(timeout=30) == [0, 1]
    eventually(lambda: all(node.status == InputStatus.SUCCESS for node in call.get_call_graph()))
    (root,) = call.get_call_graph()
    assert (root.function_call_id, root.function_name, root.module_name) == (call.object_id, "spread", "calls")
    assert [(child.function_name, child.status, child.children) for child in root.children] == [
        ("add", InputStatus.SUCCESS, [])
    ] * 2
    assert all(node.task_id.startswith("ta-") for node in (root, *root.children))


@pytest.mark.row("Calls", "FunctionCall.get_call_graph")
def test_a_call_graph_tells_what_has_not_ended_and_what_has_failed(target: Target) -> None:
    app = target.deploy("calls.py")
    running, failed = app.function("wait").spawn(60), app.function("even").spawn(1)
    eventually(lambda: failed.get_call_graph()[0].status == InputStatus.FAILURE)
    assert [node.status for node in running.get_call_graph()] == [InputStatus.PENDING]
    running.cancel()
    eventually(lambda: running.get_call_graph()[0].status == InputStatus.TERMINATED)


@pytest.mark.row("Calls", "FunctionCall.logs")
def test_a_calls_output_is_found_by_the_call(target: Target) -> None:
    sleep = target.deploy("calls.py").function("sleep")
    one, other = sleep.spawn(0.01), sleep.spawn(0.02)
    assert (one.get(), other.get()) == (0.01, 0.02)
    eventually(lambda: [entry.message for entry in one.logs.fetch()] == ["sleeping for 0.01 s\n"])
    assert [entry.message for entry in other.logs.stream()] == ["sleeping for 0.02 s\n"]
