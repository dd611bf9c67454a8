"""The unmodified `modal` CLI: what people type."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from emulator.emulator import Emulator
from tests.emulator.heart_kit import modal, write_app

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from emulator.logs import LogLine

pytestmark = pytest.mark.timeout(100)

APP = """
import sys
import modal
app = modal.App("talkative")

@app.function()
def talk():
    print("to stdout")
    print("to stderr", file=sys.stderr)
    return "done"

@app.local_entrypoint()
def main():
    print("RETURNED", talk.remote())
"""


@pytest.fixture(scope="module")
def lines() -> list[LogLine]:
    return []


@pytest.fixture(scope="module")
def emulator(lines: list[LogLine]) -> Iterator[Emulator]:
    with Emulator(log=lines.append) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_app(tmp_path, APP)
    return tmp_path


def test_run_streams_the_containers_output_and_leaves_no_container(
    emulator: Emulator, folder: Path, lines: list[LogLine]
) -> None:
    result = modal(emulator, "run", "app.py::main", cwd=folder)
    assert result.returncode == 0, result.stderr + result.stdout
    for expected in ("to stdout", "to stderr", "RETURNED done"):
        assert expected in result.stdout
    assert not emulator.containers(app="talkative")
    said = "".join(line.text for line in lines if line.function == "talk" and line.stream == "stdout")
    assert "to stdout\n" in said


def test_proxy_tokens_are_created_listed_and_deleted(emulator: Emulator, folder: Path) -> None:
    created = modal(emulator, "workspace", "proxy-tokens", "create", "--name", "ci", cwd=folder)
    assert created.returncode == 0, created.stderr + created.stdout
    key = re.search(r"wk-\w+", created.stdout)
    secret = re.search(r"ws-[\w-]+", created.stdout)
    assert key and secret
    assert emulator.core.state.authorizes(key[0], secret[0])
    assert not emulator.core.state.authorizes(key[0], "ws-guess")
    assert key[0] in modal(emulator, "workspace", "proxy-tokens", "list", cwd=folder).stdout
    deleted = modal(emulator, "workspace", "proxy-tokens", "delete", key[0], "--yes", cwd=folder)
    assert deleted.returncode == 0, deleted.stderr + deleted.stdout
    assert not emulator.core.state.authorizes(key[0], secret[0])


def test_what_is_not_implemented_says_so_by_name_and_is_logged_once(
    emulator: Emulator, folder: Path, lines: list[LogLine]
) -> None:
    for _ in range(2):
        result = modal(emulator, "nfs", "list", cwd=folder)
        assert result.returncode != 0
        assert "The emulator does not implement SharedVolumeList" in result.stdout + result.stderr
    assert len([line for line in lines if "SharedVolumeList" in line.text]) == 1
