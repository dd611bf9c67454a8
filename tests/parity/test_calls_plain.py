"""`.remote` and `.local`, what a called function knows of itself, functions that call functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import modal
import pytest
from modal.exception import ExecutionError, InvalidError

from tests.parity.apps import calls

if TYPE_CHECKING:
    from tests.parity.kit import Target


@pytest.mark.row("Calls", ".remote")
def test_remote_takes_positional_and_keyword_arguments(target: Target) -> None:
    add = target.deploy("calls.py").function("add")
    assert (add.remote(1), add.remote(1, 2), add.remote(x=1, y=3)) == (101, 3, 4)


@pytest.mark.row("Calls", ".remote.aio")
async def test_remote_can_be_awaited(target: Target) -> None:
    assert await target.deploy("calls.py").function("add").remote.aio(1, 2) == 3


@pytest.mark.row("Calls", "exceptions")
def test_an_exception_keeps_type_message_and_the_containers_traceback(target: Target) -> None:
    with pytest.raises(ValueError, match="3 is odd") as raised:
        target.deploy("calls.py").function("even").remote(3)
    assert any("/root/calls.py" in str(entry.path) for entry in raised.traceback)


@pytest.mark.row("Calls", ".local")
def test_local_runs_the_function_here(target: Target) -> None:
    assert calls.add.local(1, y=2) == 3


@pytest.mark.row("Calls", ".local")
def test_a_function_that_was_looked_up_has_no_code_to_run_here(target: Target) -> None:
    with pytest.raises(ExecutionError, match="definition for this Function is missing"):
        target.deploy("calls.py").function("add").local(1)


@pytest.mark.row("Calls", "modal.current_input_id, modal.current_function_call_id")
@pytest.mark.row("Calls", "modal.is_local")
def test_a_function_knows_its_call_its_input_and_where_it_runs(target: Target) -> None:
    called = target.deploy("calls.py").function("whereabouts").spawn()
    told = called.get(timeout=30)
    assert told["call"] == called.object_id
    assert told["input"].startswith("in-")
    assert (told["local"], told["add"]) == (False, 3)


@pytest.mark.row("Calls", "modal.current_input_id, modal.current_function_call_id")
@pytest.mark.row("Calls", "modal.is_local")
def test_outside_of_a_container_there_is_no_call(target: Target) -> None:
    assert modal.is_local()
    assert (modal.current_input_id(), modal.current_function_call_id()) == (None, None)


@pytest.mark.row("Calls", "nested calls")
def test_a_function_calls_itself_in_another_container(target: Target) -> None:
    assert target.deploy("calls.py").function("factorial").remote(3) == 6


@pytest.mark.row("Calls", "nested calls")
def test_a_function_maps_over_another_one_of_its_app(target: Target) -> None:
    assert target.deploy("calls.py").function("total").remote(5) == 10


@pytest.mark.row("Calls", "nested calls")
def test_an_async_function_spawns_others_and_gathers_their_results(target: Target) -> None:
    assert target.deploy("calls.py").function("spread").remote(3) == [0, 1, 2]


@pytest.mark.row("Calls", "nested calls")
def test_a_function_calls_another_apps_function_by_name(target: Target) -> None:
    borrow, other = target.deploy("calls.py").function("borrow"), target.deploy("basics.py")
    assert borrow.remote(other.name, "square", 3) == 9


@pytest.mark.row("Calls", "calls of the wrong kind")
def test_what_a_generator_can_not_do_is_refused(target: Target) -> None:
    app = target.deploy("calls.py")
    count, add = app.function("count"), app.function("add")
    for wrong in (lambda: count.remote(1), lambda: list(count.map([1])), lambda: count.spawn(1)):
        with pytest.raises(InvalidError, match="generator"):
            wrong()
    with pytest.raises(InvalidError, match="non-generator"):
        list(add.remote_gen(1))


@pytest.mark.row("Calls", "calls of the wrong kind")
def test_a_web_function_is_not_called_but_requested(target: Target) -> None:
    page = target.deploy("calls.py").function("page")
    for wrong in (page.remote, page.spawn, lambda: list(page.map([1]))):
        with pytest.raises(InvalidError, match="webhook function cannot be invoked"):
            wrong()


@pytest.mark.row("Calls", "modal.interact")
def test_interacting_needs_an_interactive_run(target: Target) -> None:
    with pytest.raises(InvalidError, match=r"Cannot use modal.interact\(\) without running Modal in interactive mode"):
        target.deploy("calls.py").function("ask").remote()


@pytest.mark.row("Calls", "get_current_stats")
def test_stats_tell_what_waits_and_what_runs(target: Target) -> None:
    wait = target.deploy("calls.py").function("wait")
    assert wait.remote(0) == 0
    stats = wait.get_current_stats()
    assert (stats.backlog, stats.num_running_inputs, stats.num_total_runners) == (0, 0, 1)
