"""`modal run`: what it calls, what it takes, what lands in the terminal, and how it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from tests.parity.kit import APPS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.parity.kit import Target

SOON = 30.0


def succeeded(done: subprocess.CompletedProcess[str]) -> str:
    """What it wrote to stdout."""
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def apps(target: Target) -> list[Mapping[str, str]]:
    """Every app that is listed."""
    listed: list[Mapping[str, str]] = json.loads(succeeded(target.cli("app", "list", "--json")))
    return listed


# What is called


@pytest.mark.row("CLI", "modal run")
def test_run_calls_a_function_with_its_arguments(target: Target) -> None:
    written = succeeded(target.cli("run", "commands.py::greet", "--name", "you"))
    assert "greeting you\n" in written


@pytest.mark.row("CLI", "modal run of a method")
def test_run_calls_a_method_with_parameters_of_its_class_and_arguments_of_its_own(target: Target) -> None:
    written = succeeded(target.cli("run", "commands.py::Greeter.greet", "--greeting", "hi", "--name", "you"))
    assert "hi, you" in written


@pytest.mark.row("CLI", "modal run of a local entrypoint")
def test_run_calls_a_local_entrypoint_here_and_what_it_calls_there(target: Target) -> None:
    written = succeeded(target.cli("run", "commands.py::main"))
    assert "RETURNED hello main" in written
    assert "greeting main\n" in written


@pytest.mark.slow
@pytest.mark.row("CLI", "modal run of a local entrypoint")
def test_a_local_entrypoint_may_be_asynchronous_or_take_any_number_of_words(target: Target) -> None:
    assert "AWAITED hello async" in succeeded(target.cli("run", "commands.py::asynchronous"))
    assert "WORDS ('a', '--b', 'c')" in succeeded(target.cli("run", "commands.py::variadic", "a", "--b", "c"))


@pytest.mark.row("CLI", "modal run: typed arguments")
def test_arguments_of_every_kind_become_values_of_their_types(target: Target) -> None:
    given = "--text t --count 3 --share 0.25 --loud --when 2024-02-29 --maybe 5 --color green --level 2 --anything x"
    written = succeeded(target.cli("run", "commands.py::typed", *given.split()))
    assert "TYPED ['t', 3, 0.25, True, '2024-02-29T00:00:00', 5, 'green', 2, 'x']" in written
    written = succeeded(target.cli("run", "commands.py::typed", "--text", "t", "--count", "3", "--no-loud"))
    assert "TYPED ['t', 3, 0.5, False, '2000-01-01T00:00:00', None, 'red', 1, None]" in written


@pytest.mark.row("CLI", "modal run: typed arguments")
@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--text", "t"], "--count"),
        (["--text", "t", "--count", "many"], "many"),
        (["--text", "t", "--count", "1", "--color", "blue"], "blue"),
        (["--text", "t", "--count", "1", "--level", "3"], "3"),
    ],
)
def test_an_argument_that_is_missing_or_of_another_type_is_a_usage_error(
    target: Target, words: list[str], complaint: str
) -> None:
    refused = target.cli("run", "commands.py::typed", *words)
    assert refused.returncode == 2, refused.stdout + refused.stderr
    assert complaint in refused.stderr


@pytest.mark.row("CLI", "modal run -m")
def test_run_m_takes_a_module_and_its_package_is_there_under_its_own_name(target: Target) -> None:
    assert "RETURNED packaged.whole: a part of the package" in succeeded(target.cli("run", "-m", "packaged.whole"))


@pytest.mark.slow
@pytest.mark.since("1.6")
@pytest.mark.row("CLI", "modal run -")
def test_run_dash_reads_the_script_from_stdin(target: Target) -> None:
    script = """
import modal
app = modal.App("from-stdin")

@app.function()
def hello():
    print("hello from stdin")
"""
    assert "hello from stdin" in succeeded(target.cli("run", "-", input=script))


@pytest.mark.since("1.6")
@pytest.mark.row("CLI", "modal run")
def test_what_is_not_there_is_told_with_what_is(target: Target) -> None:
    refused = target.cli("run", "commands.py::greeet")
    assert refused.returncode == 1
    assert "Could not find 'greeet'" in refused.stderr
    assert "greet" in refused.stderr.replace("greeet", "")


# Its options


@pytest.mark.slow
@pytest.mark.row("CLI", "modal run --quiet")
def test_quiet_shows_what_is_returned_and_no_progress(target: Target) -> None:
    written = succeeded(target.cli("run", "-q", "commands.py::main"))
    assert "RETURNED hello main" in written
    assert "Initialized" not in written
    assert "App completed" not in written


@pytest.mark.slow
@pytest.mark.row("CLI", "modal run --write-result")
def test_write_result_puts_text_and_bytes_into_a_file_and_takes_nothing_else(target: Target, tmp_path: Path) -> None:
    path = tmp_path / "result"
    succeeded(target.cli("run", "-w", str(path), "commands.py::greet", "--name", "you"))
    assert path.read_text() == "hello you"
    succeeded(target.cli("run", "-w", str(path), "commands.py::raw"))
    assert path.read_bytes() == b"\x00\x01\xff"
    refused = target.cli("run", "-w", str(path), "commands.py::number")
    assert refused.returncode == 1
    assert "must return str or bytes" in refused.stderr


@pytest.mark.slow
@pytest.mark.row("CLI", "modal run --name")
def test_a_run_has_the_name_that_it_is_given(target: Target) -> None:
    name = f"named-{target.session}"
    succeeded(target.cli("run", "-q", "--name", name, "commands.py::number"))
    (listed,) = [app for app in apps(target) if app["description"] == name]
    assert listed["state"] == "stopped"


@pytest.mark.slow
@pytest.mark.row("CLI", "modal run --env")
def test_a_run_is_in_the_environment_that_it_names_and_one_that_is_not_there_is_refused(target: Target) -> None:
    refused = target.cli("run", "--env", "nowhere-at-all", "commands.py::number")
    assert refused.returncode == 1
    assert "nowhere-at-all" in refused.stderr
    environment = f"cli-{target.session}"
    succeeded(target.cli("environment", "create", environment))
    name = f"elsewhere-{target.session}"
    succeeded(target.cli("run", "-q", "--env", environment, "--name", name, "commands.py::number"))
    assert [app for app in apps(target) if app["description"] == name] == []
    there = json.loads(succeeded(target.cli("app", "list", "--json", "--env", environment)))
    assert [app["description"] for app in there] == [name]


@pytest.mark.slow
@pytest.mark.row("CLI", "modal run --timestamps")
def test_timestamps_stand_before_each_line_of_the_log(target: Target) -> None:
    written = succeeded(target.cli("run", "--timestamps", "commands.py::greet", "--name", "you"))
    assert re.search(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\S* greeting you$", written, re.MULTILINE)


@pytest.mark.row("CLI", "modal run --interactive")
@pytest.mark.emulator_only("real Modal has an interactive mode")
def test_an_interactive_run_is_refused_by_name(target: Target) -> None:
    refused = target.cli("run", "-i", "commands.py::greet", "--name", "you")
    assert refused.returncode == 1
    assert "interactive" in refused.stderr.lower()


# What lands in the terminal


@pytest.mark.row("CLI", "output in the terminal")
def test_lines_land_once_in_their_order_with_their_colours_and_the_last_without_an_end(target: Target) -> None:
    written = succeeded(target.cli("run", "commands.py::pieces"))
    assert "one, two\n\x1b[32mgreen\x1b[0m\n" in written
    assert [written.count(line) for line in ("one, two", "green", "without an end")] == [1, 1, 1]


@pytest.mark.slow
@pytest.mark.row("CLI", "output in the terminal")
def test_a_terminal_shows_how_many_containers_are_active_beside_the_log(target: Target) -> None:
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "modal", "run", "detached.py::long", "--key", "in a terminal"]
    environment = {**target.environment, "TERM": "xterm"}
    with subprocess.Popen(command, cwd=APPS, env=environment, stdin=theirs, stdout=theirs, stderr=theirs) as running:
        os.close(theirs)
        written = b""
        with suppress(OSError):  # how a terminal's end is told
            while read := os.read(ours, 65536):
                written += read
    os.close(ours)
    assert running.returncode == 0, written.decode()
    assert b"Running (1/1 containers active)" in written
    assert written.count(b"begun in a terminal") == written.count(b"finished in a terminal") == 1


@pytest.mark.row("CLI", "output in the terminal")
def test_what_containers_say_when_they_leave_lands_too_before_the_run_is_called_complete(target: Target) -> None:
    written = succeeded(target.cli("run", "commands.py::Greeter.greet"))
    stopping, last = written.index("Stopping app - local entrypoint completed.\n"), written.index("the last words\n")
    assert stopping < last < written.index("App completed")
    assert "Timed out" not in written


@pytest.mark.row("CLI", "exceptions in the terminal")
def test_an_exception_of_a_function_keeps_type_message_and_traceback(target: Target) -> None:
    failed = target.cli("run", "commands.py::fail")
    written = failed.stdout + failed.stderr
    assert failed.returncode == 1
    assert "about to fail\n" in failed.stdout
    assert "KeyError: 'no such thing'" in written
    assert "secret_of_the_traceback" in written, "the line that raised"
    assert "Stopping app - uncaught exception raised in remote container: KeyError('no such thing').\n" in failed.stdout


@pytest.mark.slow
@pytest.mark.row("CLI", "exceptions in the terminal")
def test_an_exception_that_passes_through_the_entrypoint_shows_where_the_remote_call_was(target: Target) -> None:
    written = target.cli("run", "commands.py::fail_there").stderr
    assert re.search(r"Remote call to Modal Function \(ta-\w+\)", written)
    assert "fail.remote()" in written
    assert "/root/commands.py" in written
    assert "KeyError: 'no such thing'" in written


@pytest.mark.slow
@pytest.mark.row("CLI", "exceptions in the terminal")
def test_an_exception_of_the_entrypoint_is_told_as_raised_here(target: Target) -> None:
    failed = target.cli("run", "commands.py::fail_here")
    assert failed.returncode == 1
    assert "ValueError: of the caller's own" in failed.stdout + failed.stderr
    assert 'Stopping app - uncaught exception raised locally: ValueError("of the caller\'s own").\n' in failed.stdout


@pytest.mark.slow
@pytest.mark.row("CLI", "exit codes")
def test_a_run_that_fails_exits_with_1_and_a_wrong_usage_with_2(target: Target) -> None:
    assert target.cli("run", "-q", "commands.py::number").returncode == 0
    assert target.cli("run", "-q", "commands.py::fail").returncode == 1
    assert target.cli("run", "--no-such-option", "commands.py::fail").returncode == 2


# Left alone


@pytest.mark.slow
@pytest.mark.row("CLI", "modal run --detach")
def test_a_detached_run_goes_on_when_its_entrypoint_has_ended_and_stops_when_it_has_no_more_to_do(
    target: Target,
) -> None:
    name = f"spawned-{target.session}"
    with target.start("run", "--detach", "--name", name, "detached.py::spawns", "--key", "a") as running:
        running.wait_for("begun a")
        assert state(target, name) == "ephemeral (detached)"
        assert running.wait() == 0
        assert "finished a" in running.output
        assert "Timed out" not in running.output
    assert state(target, name) == "stopped"


@pytest.mark.slow
@pytest.mark.row("CLI", "modal run --detach")
def test_a_detached_run_goes_on_when_its_client_is_killed(target: Target) -> None:
    name = f"killed-{target.session}"
    with target.start("run", "--detach", "--name", name, "detached.py::stays", "--key", "k") as running:
        running.wait_for("begun k")
        running.send(signal.SIGKILL)
        running.wait()
    assert state(target, name) == "ephemeral (detached)"
    until(lambda: "finished k" in succeeded(target.cli("app", "logs", app_id(target, name))))


@pytest.mark.slow
@pytest.mark.row("CLI", "modal run --detach")
def test_ctrl_c_leaves_a_detached_run_alone_and_says_how_to_follow_and_stop_it(target: Target) -> None:
    name = f"interrupted-{target.session}"
    with target.start("run", "--detach", "--name", name, "detached.py::stays", "--key", "b") as running:
        running.wait_for("begun b")
        running.interrupt()
        assert "The detached App will keep running" in running.output
    assert state(target, name) == "ephemeral (detached)"
    until(lambda: state(target, name) == "stopped")
    assert "finished b" in succeeded(target.cli("app", "logs", app_id(target, name)))


@pytest.mark.row("CLI", "modal run --detach")
def test_a_detached_run_with_nothing_left_to_do_is_complete_at_once(target: Target) -> None:
    name = f"done-{target.session}"
    written = succeeded(target.cli("run", "--detach", "--name", name, "detached.py::short"))
    assert "App completed" in written
    assert "Timed out" not in written
    assert state(target, name) == "stopped"


@pytest.mark.slow
@pytest.mark.row("CLI", "modal run")
def test_ctrl_c_stops_a_run_and_shows_what_its_containers_still_say(target: Target) -> None:
    name = f"aborted-{target.session}"
    with target.start("run", "--name", name, "detached.py::stays", "--key", "c") as running:
        running.wait_for("begun c")
        running.interrupt()
        assert "Stopping app - keyboard interrupt received.\n" in running.output
        assert "Runner terminated.\n" in running.output
        assert "App aborted" in running.output
    assert state(target, name) == "stopped"


def app_id(target: Target, name: str) -> str:
    (found,) = [app for app in apps(target) if app["description"] == name]
    return found["app_id"]


def state(target: Target, name: str) -> str:
    (found,) = [app for app in apps(target) if app["description"] == name]
    return found["state"]


def until(condition: object) -> None:
    """Asks again until it holds."""
    assert callable(condition)
    deadline = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < deadline
