"""`modal volume …`: what the commands do, and what they say where it can not be done."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.parity.kit import Target

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def volume(target: Target) -> Iterator[str]:
    """The name of one of version 2."""
    name = f"cli-{secrets.token_hex(4)}"
    done = target.cli("volume", "create", name, "--version", "2")
    assert (done.returncode, f"Created Volume '{name}'" in done.stdout) == (0, True), done.stderr
    yield name
    target.cli("volume", "delete", name, "--yes")


def does(target: Target, *words: str, cwd: Path | None = None) -> str:
    done = target.cli("volume", *words, cwd=cwd)
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout


def fails(target: Target, *words: str, cwd: Path | None = None) -> str:
    done = target.cli("volume", *words, cwd=cwd)
    assert done.returncode != 0, (words, done.stdout)
    return done.stderr


@pytest.mark.row("CLI", "modal volume create")
@pytest.mark.row("CLI", "modal volume list")
@pytest.mark.row("CLI", "modal volume rename")
@pytest.mark.row("CLI", "modal volume delete")
def test_a_volume_is_created_listed_renamed_and_deleted(target: Target) -> None:
    name = f"cli-{secrets.token_hex(4)}"
    does(target, "create", name)
    assert name in [one["name"] for one in json.loads(does(target, "list", "--json"))]
    assert "already exists" in fails(target, "create", name)
    does(target, "rename", name, f"{name}-new", "--yes")
    assert "not found" in fails(target, "ls", name)
    does(target, "delete", f"{name}-new", "--yes")
    assert name not in does(target, "list", "--json")
    assert "not found" in fails(target, "delete", f"{name}-new", "--yes")
    does(target, "delete", f"{name}-new", "--yes", "--allow-missing")


@pytest.mark.row("CLI", "modal volume put")
@pytest.mark.row("CLI", "modal volume get")
@pytest.mark.row("CLI", "modal volume ls")
def test_what_is_put_is_listed_and_got_again(target: Target, volume: str, tmp_path: Path) -> None:
    (tmp_path / "dir" / "sub").mkdir(parents=True)
    (tmp_path / "dir" / "sub" / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    does(target, "put", volume, "dir", cwd=tmp_path)
    does(target, "put", volume, "b", "/to/", cwd=tmp_path)
    assert does(target, "ls", volume).split() == ["dir", "to"]
    [listed] = json.loads(does(target, "ls", volume, "/to", "--json"))
    assert (listed["filename"], listed["type"], listed["size"]) == ("to/b", "file", 1)
    assert "already exists" in fails(target, "put", volume, "b", "/to/", cwd=tmp_path)
    (tmp_path / "b").write_text("bb")
    does(target, "put", volume, "b", "/to/", "--force", cwd=tmp_path)
    assert does(target, "get", volume, "to/b", "-").startswith("bb")
    (tmp_path / "all").mkdir()
    does(target, "get", volume, "/", "all", cwd=tmp_path)
    assert (tmp_path / "all" / "dir" / "sub" / "a").read_text() == "a"
    assert (tmp_path / "all" / "to" / "b").read_text() == "bb"
    assert "already exists" in fails(target, "get", volume, "to/b", "b", cwd=tmp_path)
    for words in (("get", volume, "nope"), ("ls", volume, "nope")):
        assert "No such file or directory: 'nope'" in fails(target, *words, cwd=tmp_path)


@pytest.mark.row("CLI", "modal volume cp")
@pytest.mark.row("CLI", "modal volume rm")
def test_files_are_copied_and_removed(target: Target, volume: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    does(target, "put", volume, "file", "/cp/file", cwd=tmp_path)
    does(target, "cp", volume, "cp/file", "cp/other")
    assert "is a directory" in fails(target, "cp", volume, "cp", "cp2")
    does(target, "cp", "-r", volume, "cp", "cp2")
    assert does(target, "ls", volume, "cp2").split() == ["cp2/file", "cp2/other"]
    assert "is a directory" in fails(target, "rm", volume, "cp2")
    does(target, "rm", "-r", volume, "cp2")
    assert "No such file or directory: 'cp2'" in fails(target, "rm", volume, "cp2")


@pytest.mark.row("CLI", "modal volume dashboard")
def test_the_dashboard_is_an_address_with_the_volumes_id(target: Target, volume: str) -> None:
    assert "https://modal.com/id/vo-" in does(target, "dashboard", volume)
