"""An emulator that ends leaves nothing behind, however it ends and whatever its containers are at."""

from __future__ import annotations

import secrets
import shutil
import signal
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

import modal
import pytest

from emulator.record import read
from tests.emulator.traces import Commanded, commanded, mounts_below, sweep, with_argument
from tests.parity.kit import APPS, client_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.emulator_only("it is about the emulator's own end")

WAYS = ("auto", "process")
STATUS_OF_EXEC = {signal.SIGINT: 0, signal.SIGTERM: 143, signal.SIGHUP: 129, signal.SIGKILL: -9}
"""The command's own: on Ctrl-C `modal run` stops its app and ends well."""
ALL_UP = ("boots begin", "polite is up", "pages serve")


@pytest.fixture
def mark() -> str:
    return f"7{secrets.randbelow(10**8):08}"


@contextmanager
def up(
    tmp_path: Path, temporary: Path, mark: str, *, containers: str = "auto", busy: bool = True
) -> Iterator[Commanded]:
    """`emulator up` with containers that boot, serve pages, are idle, and (`busy`) work on inputs for ever."""
    shutil.copy(APPS / "lives.py", tmp_path / "app.py")
    arguments = ("up", "--port", "0", "--no-reload", "--containers", containers)
    with commanded(*arguments, cwd=tmp_path, temporary=temporary, MARK=mark) as command:
        command.says("Ready: ", *ALL_UP)
        client = client_of(read(tmp_path / ".modal-emulator"))
        if busy:
            modal.Function.from_name("lives", "stubborn", client=client).spawn()
            command.says("stubborn works")
        modal.Cls.from_name("lives", "Polite", client=client)().works.spawn()
        command.says("polite works")
        client.close()
        yield command


def state_is_clean(tmp_path: Path) -> None:
    state = tmp_path / ".modal-emulator"
    kept = {"aws.sqlite3", "content", "objects", "state.sqlite3", "volumes"}
    assert {entry.name for entry in state.iterdir()} == kept | {"blobs", "lock"}
    assert list((state / "blobs").iterdir()) == []


@pytest.mark.row("How it holds", "Ctrl-C, SIGTERM, SIGHUP")
@pytest.mark.row("How it holds", "`@modal.exit` when the emulator stops")
@pytest.mark.parametrize(
    ("number", "containers"),
    [
        (signal.SIGINT, "auto"),
        pytest.param(signal.SIGTERM, "auto", marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, "process", marks=pytest.mark.slow),
    ],
)
@pytest.mark.slow
def test_a_signal_ends_it_all_after_exit_handlers_have_run(
    number: signal.Signals, containers: str, tmp_path: Path, temporary: Path, mark: str
) -> None:
    with up(tmp_path, temporary, mark, containers=containers, busy=False) as command:
        state = tmp_path / ".modal-emulator"
        assert [stat.S_IMODE(path.stat().st_mode) for path in (state, state / "running.json")] == [0o700, 0o600]
        secret = read(state)["MODAL_TOKEN_SECRET"]
        assert secret not in command.text
        traces = command.traces()
        command.send(number)
        assert command.ends() == 0, command.text
    traces.gone()
    [left] = (tmp_path / ".modal-emulator" / "volumes").glob("vo-*/left")
    assert left.read_text() == "left\n"
    assert list(command.temporary.iterdir()) == []
    assert mounts_below(tmp_path) == []
    state_is_clean(tmp_path)


@pytest.mark.slow
@pytest.mark.row("How it holds", "Ctrl-C, SIGTERM, SIGHUP")
@pytest.mark.parametrize("containers", WAYS)
def test_a_second_ctrl_c_waits_for_nobody(containers: str, tmp_path: Path, temporary: Path, mark: str) -> None:
    with up(tmp_path, temporary, mark, containers=containers) as command:
        traces = command.traces()
        assert len(with_argument(mark)) >= 2
        command.send(signal.SIGINT)
        command.says("containers of stubborn have 30s to leave")
        command.send(signal.SIGINT)
        assert command.ends(within=20) == 130, command.text
    traces.gone()
    assert with_argument(mark) == []
    assert list(command.temporary.iterdir()) == []
    state_is_clean(tmp_path)


@pytest.mark.row("How it holds", "`kill -9`")
@pytest.mark.parametrize("containers", ["auto", pytest.param("process", marks=pytest.mark.slow)])
@pytest.mark.slow
def test_what_a_killed_emulator_ran_dies_by_itself_and_the_next_removes_its_files(
    containers: str, tmp_path: Path, temporary: Path, mark: str
) -> None:
    with up(tmp_path, temporary, mark, containers=containers) as command:
        traces = command.traces()
        command.send(signal.SIGKILL)
        command.ends()
    traces.gone()
    assert with_argument(mark) == []
    assert list(command.temporary.iterdir()) != []
    sweep(command.temporary)
    assert list(command.temporary.iterdir()) == []
    assert mounts_below(tmp_path) == []


@pytest.mark.slow
@pytest.mark.row("How it holds", "`kill -9`")
def test_up_starts_again_where_one_was_killed(tmp_path: Path, temporary: Path, mark: str) -> None:
    with up(tmp_path, temporary, mark) as command:
        command.send(signal.SIGKILL)
        command.ends()
    with up(tmp_path, temporary, mark) as command:
        command.send(signal.SIGTERM)
        command.says("emulator | stopping")
        command.send(signal.SIGTERM)
        command.ends()
    assert list(command.temporary.iterdir()) == []
    state_is_clean(tmp_path)
    assert with_argument(mark) == []


@pytest.mark.slow
@pytest.mark.row("How it holds", "`kill -9`")
@pytest.mark.parametrize("command", ["--before", "deploy"])
def test_what_up_runs_itself_ends_with_it(command: str, tmp_path: Path, temporary: Path, mark: str) -> None:
    busy = f"import subprocess\nprint('deep', flush=True)\nsubprocess.run('setsid sleep {mark}; true', shell=True)"
    (tmp_path / "app.py").write_text(busy)
    before = ("--before", f"{shutil.which('python3')} app.py; true") if command == "--before" else ()
    with commanded("up", "--port", "0", *before, cwd=tmp_path, temporary=temporary) as running:
        running.says("deep")
        traces = running.traces()
        running.send(signal.SIGKILL)
        running.ends()
    traces.gone()
    assert with_argument(mark) == []


@pytest.mark.slow
@pytest.mark.row("How it holds", "Ctrl-C, SIGTERM, SIGHUP")
@pytest.mark.row("How it holds", "`kill -9`")
@pytest.mark.timeout(150)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_exec_leaves_nothing_of_its_command_and_its_containers(
    number: signal.Signals, tmp_path: Path, temporary: Path, mark: str
) -> None:
    shutil.copy(APPS / "lives.py", tmp_path / "lives.py")
    arguments = ("exec", "--", "modal", "run", "lives.py")
    with commanded(*arguments, cwd=tmp_path, temporary=temporary, MARK=mark) as command:
        command.says("stubborn works", *ALL_UP)
        traces = command.traces()
        command.send(number)
        # The client waits for its app to end: a container that is deaf to signals has its whole grace period.
        status = command.ends(within=60)
    traces.gone()
    assert status == STATUS_OF_EXEC[number], command.text
    assert with_argument(mark) == []
    if number == signal.SIGKILL:
        sweep(command.temporary)
    assert list(command.temporary.iterdir()) == []


@pytest.mark.slow
@pytest.mark.row("How it holds", "Ctrl-C, SIGTERM, SIGHUP")
def test_a_signal_before_anything_has_started_is_heeded(tmp_path: Path, temporary: Path) -> None:
    (tmp_path / "app.py").write_text("import modal\napp = modal.App('x')\n")
    with commanded("up", "--port", "0", cwd=tmp_path, temporary=temporary) as command:
        command.send(signal.SIGTERM)
        command.ends()
    assert list(command.temporary.iterdir()) == []
