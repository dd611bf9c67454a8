"""`emulator env` and the record that it reads: who runs in a state directory, and how to reach it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from emulator.problem import Problem
from emulator.record import hold, read
from emulator.storage.content import BlobStore, ContentStore
from tests.emulator.cli_kit import ROOT, call

HOLDER = """
import sys, time
from pathlib import Path
from emulator.record import hold
with hold(Path(sys.argv[1])) as record:
    record({"MODAL_SERVER_URL": "http://127.0.0.1:1"})
    print("held", flush=True)
    time.sleep(1000)
"""


async def test_the_environment_is_printed_for_a_shell(tmp_path: Path) -> None:
    with hold(tmp_path / "s") as record:
        record({"MODAL_SERVER_URL": "http://127.0.0.1:1", "ODD": "it's $HOME"})
        status, out, err = await call("env", "--state", "s", cwd=tmp_path)
    assert (status, err) == (0, "")
    printed = await asyncio.to_thread(
        subprocess.run, ["sh", "-c", out + 'printf %s "$ODD"'], capture_output=True, text=True, check=True
    )
    assert printed.stdout == "it's $HOME"


async def test_without_an_emulator_it_is_one_line_and_status_1(tmp_path: Path) -> None:
    status, out, err = await call("env", cwd=tmp_path)
    assert (status, out) == (1, "")
    assert err == "emulator: no emulator runs in .modal-emulator: start one with `emulator up`, or name its --state\n"


def test_a_state_directory_has_one_emulator_at_a_time(tmp_path: Path) -> None:
    with hold(tmp_path), pytest.raises(Problem, match=rf"\(process {os.getpid()}\) already runs"), hold(tmp_path):
        pass
    with hold(tmp_path):
        pass


def test_an_emulator_that_is_still_starting_has_no_environment_yet(tmp_path: Path) -> None:
    with hold(tmp_path), pytest.raises(Problem, match="still starting"):
        read(tmp_path)


def test_the_record_of_a_killed_emulator_is_stale_and_the_next_one_takes_its_place(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    assert read(tmp_path) == {"MODAL_SERVER_URL": "http://127.0.0.1:1"}
    holder.kill()
    holder.wait()
    holder.stdout.close()
    with pytest.raises(Problem, match=rf"is stale: its emulator \(process {holder.pid}\) has ended"):
        read(tmp_path)
    with hold(tmp_path):
        pass


def test_the_record_and_a_new_state_directory_are_the_users_alone(tmp_path: Path) -> None:
    state = tmp_path / "s"
    with hold(state):
        assert state.stat().st_mode & 0o777 == 0o700
        assert (state / "running.json").stat().st_mode & 0o777 == 0o600


def test_a_record_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    (tmp_path / "running.json").touch(mode=0o644)
    with hold(tmp_path):
        assert (tmp_path / "running.json").stat().st_mode & 0o777 == 0o600


def test_what_an_emulator_keeps_is_the_users_alone_in_a_directory_that_others_see(tmp_path: Path) -> None:
    ContentStore(tmp_path / "content")
    (tmp_path / "blobs").mkdir(mode=0o755)
    BlobStore(tmp_path / "blobs")
    assert [folder.stat().st_mode & 0o777 for folder in tmp_path.iterdir()] == [0o700, 0o700]


def test_a_state_directory_that_can_not_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Problem, match=r"the state directory .* can not be used"), hold(tmp_path / "file" / "s"):
        pass
