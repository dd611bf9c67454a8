"""Containers as threads of the test process: whose environment, output, modules and end it is."""

from __future__ import annotations

import io
import os
import pdb
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import modal
import pytest

from emulator.containers.thread.streams import Router
from emulator.emulator import Emulator
from tests.emulator import thread_app
from tests.parity.kit import client_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from emulator.logs import LogLine

WITHIN = 30.0


class Running:
    """An emulator with thread containers, with `thread_app` deployed from this very process."""

    def __init__(self, emulator: Emulator, client: modal.Client, lines: list[LogLine]) -> None:
        self.emulator = emulator
        self.client = client
        self._lines = lines

    def said(self, function: str) -> str:
        """Everything that the containers of a function have written until now."""
        return "".join(line.text for line in self._lines if line.function.removesuffix(".*") == function)

    def logged(self) -> str:
        """All that the app's log has, the emulator's own words included."""
        (app,) = self.emulator.core.state.apps.values()
        return "".join(item.data for batch in list(app.log.batches) for item in batch.items)

    def wait_for_words(self, function: str, words: str) -> None:
        self.emulator.wait(lambda: words in self.said(function), within=WITHIN)


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    lines: list[LogLine] = []
    with Emulator(containers="thread", log=lines.append) as emulator:
        client = client_of({**os.environ, **emulator.environment})
        thread_app.app.deploy(client=client)
        yield Running(emulator, client, lines)
        client.close()


def test_a_function_runs_in_this_process_on_its_own_modules(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread_app, "GREETING", "patched")
    assert thread_app.greet.remote("you") == ("patched you", os.getpid())


def test_a_container_is_remote_while_the_test_is_local(running: Running) -> None:
    inside, input_id, call_id = thread_app.whereabouts.remote()
    assert not inside
    assert input_id.startswith("in-")
    assert call_id.startswith("fc-")
    assert modal.is_local()
    assert modal.current_input_id() is None


def test_each_container_has_an_environment_of_its_own(running: Running) -> None:
    first, second = thread_app.red.remote(), thread_app.blue.remote()
    assert (first["COLOUR"], second["COLOUR"]) == ("red", "blue")
    assert first["copied"] == first["imported"] == first["getenv"] == "red"
    assert first["SECRET"] == "s3cret"
    assert "COLOUR" not in os.environ
    assert "MODAL_TOKEN_SECRET" not in first["names"]


def test_what_a_container_sets_in_its_environment_stays_there(running: Running) -> None:
    assert thread_app.sets_variable.remote("VALUE") == "VALUE"
    assert "SET_INSIDE" not in os.environ
    printed = subprocess.run(["env"], capture_output=True, text=True, check=True).stdout
    assert "SET_INSIDE" not in printed


def test_children_threads_and_executors_have_the_containers_environment(running: Running) -> None:
    assert thread_app.heirs.remote() == {
        "child": "green",
        "child with its own": "mine",
        "shell": "green",
        "thread": "green",
        "executor": "green",
        "to_thread": "green",
        "task": "green",
    }


def test_what_a_container_prints_is_in_its_log_and_nowhere_else(
    running: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    print("the test's own")
    thread_app.talks.remote("hello")
    running.wait_for_words("talks", "thread: hello")
    running.wait_for_words("talks", "child: hello")
    said = running.said("talks")
    assert all(f"{who}: hello" in said for who in ("stdout", "stderr", "thread", "loop", "child"))
    assert "redirected" not in said
    captured = capsys.readouterr()
    assert captured.out == "the test's own\n"
    assert "hello" not in captured.err


class StopsWhereItIsUsed:
    """A text at which a debugger stops, that is given `commands`."""

    def __init__(self, commands: str) -> None:
        self._commands = io.StringIO(commands)

    def __format__(self, _spec: str) -> str:
        answer = "stopped"
        pdb.Pdb(stdin=self._commands).set_trace()
        return answer


def test_a_debugger_in_a_container_speaks_to_who_runs_the_test(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(sys, "stdout", Router("stdout", terminal))
    monkeypatch.setattr(thread_app, "GREETING", StopsWhereItIsUsed("p answer.upper()\ncontinue\n"))
    assert thread_app.greet.remote("here") == ("stopped here", os.getpid())
    assert "(Pdb) 'STOPPED'" in terminal.getvalue()
    assert "(Pdb)" not in running.said("greet")


def test_a_sleeping_input_is_cancelled_and_its_container_goes_on(running: Running) -> None:
    call = thread_app.sleeps.spawn()
    running.wait_for_words("sleeps", "sleeping")
    call.cancel()
    running.wait_for_words("sleeps", "InputCancellation: Input was cancelled by user")
    assert thread_app.sleeps.remote(0) == "slept"


def test_a_killed_container_ends_at_once_without_its_exit_handlers(running: Running) -> None:
    call = thread_app.Lasting().work.spawn()
    running.wait_for_words("Lasting", "working")
    (container,) = [each for each in running.emulator.containers(function="Lasting") if each.active]
    running.emulator.kill_container(container.task_id)
    running.emulator.wait(
        lambda: container.task_id not in {each.task_id for each in running.emulator.containers()}, within=WITHIN
    )
    call.cancel()
    assert "exit handler" not in running.said("Lasting")


def test_a_container_can_end_itself_as_a_process_would(running: Running) -> None:
    call = thread_app.crashes.spawn()
    running.wait_for_words("", "ended with exit code 3")
    call.cancel()
    assert "Traceback" not in running.said("crashes")


def test_a_thread_that_blocks_in_c_code_is_abandoned_and_its_late_result_ignored(running: Running) -> None:
    call = thread_app.blocks.spawn()
    running.wait_for_words("blocks", "blocking")
    (container,) = running.emulator.containers(function="blocks")
    running.emulator.kill_container(container.task_id)
    running.emulator.wait(lambda: "it is abandoned" in running.logged(), within=WITHIN)
    call.cancel()
    thread_app.unblock()
    names = f"container {container.task_id}"
    running.emulator.wait(lambda: names not in {thread.name for thread in threading.enumerate()}, within=WITHIN)
    assert "late" not in running.said("blocks")


def test_concurrent_inputs_of_both_kinds_know_which_they_are(running: Running) -> None:
    for function in (thread_app.together, thread_app.atogether):
        found = list(function.map(range(6)))
        assert len({input_id for input_id, _ in found}) == 6
        assert {colour for _, colour in found} == {"green"}


def test_user_code_has_signal_handlers_of_its_own(running: Running) -> None:
    before = signal.getsignal(signal.SIGUSR2)
    assert thread_app.handles_signal.remote() == "handled"
    assert signal.getsignal(signal.SIGUSR2) is before


def test_an_input_that_takes_too_long_ends_and_its_container_goes_on(running: Running) -> None:
    with pytest.raises(modal.exception.FunctionTimeoutError):
        thread_app.too_long.remote(600.0)
    (container,) = running.emulator.containers(function="too_long")
    assert thread_app.too_long.remote(0.0) == container.task_id


def test_a_thread_that_is_no_daemon_is_awaited_when_its_container_leaves(running: Running) -> None:
    assert thread_app.leaves_a_thread.remote() == (False, True)
    running.wait_for_words("leaves_a_thread", "written late")
