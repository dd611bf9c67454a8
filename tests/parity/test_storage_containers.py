"""Volumes in containers: who sees what another has written, and when."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Any

import modal
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.parity.kit import DeployedApp, Target


@pytest.fixture(scope="module")
def app(target: Target) -> DeployedApp:
    return target.deploy("volumes.py")


@pytest.fixture(scope="module")
def outside(target: Target, app: DeployedApp) -> modal.Volume:
    """The Volume as the client has it. (Of the app, which is deployed by then.)"""
    return modal.Volume.from_name("parity-shared", client=target.client)


@pytest.fixture
def one(app: DeployedApp) -> Callable[..., list[Any]]:
    return app.function("one").remote


@pytest.fixture
def other(app: DeployedApp) -> Callable[..., list[Any]]:
    return app.function("other").remote


@pytest.fixture
def fresh(app: DeployedApp) -> Callable[..., list[Any]]:
    return app.function("fresh").remote


@pytest.fixture
def at() -> str:
    """A folder of the test's own."""
    return secrets.token_hex(4)


def eventually(condition: Callable[[], bool], *, within: float = 40.0) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def listed(volume: modal.Volume, path: str) -> list[str]:
    return sorted(entry.path.removeprefix(f"{path}/") for entry in volume.iterdir(path))


@pytest.mark.row("Storage", "Volume.commit")
@pytest.mark.row("Storage", "Volume.reload")
def test_what_is_written_is_seen_after_a_commit_and_a_reload(
    one: Callable[..., list[Any]], other: Callable[..., list[Any]], outside: modal.Volume, at: str
) -> None:
    path = f"{at}/file"
    assert other(("read", path)) == [None]
    one(("write", path, "1"), ("commit",))
    assert b"".join(outside.read_file(path)) == b"1"
    assert other(("read", path), ("reload",), ("read", path)) == [None, None, "1"]
    one(("write", path, "2"), ("commit",))
    assert other(("read", path), ("reload",), ("read", path)) == ["1", None, "2"]


@pytest.mark.row("Storage", "Volume.commit")
def test_what_is_not_committed_is_seen_by_its_container_alone(
    one: Callable[..., list[Any]], other: Callable[..., list[Any]], at: str
) -> None:
    def unseen(path: str) -> bool:
        one(("write", path, "x"))
        return other(("reload",), ("read", path)) == [None, None] and one(("read", path)) == ["x"]

    # A commit in the background may come between.
    assert any(unseen(f"{at}-{number}") for number in range(5))


@pytest.mark.row("Storage", "commit at a container's end")
def test_what_a_container_leaves_is_committed_when_it_ends(
    fresh: Callable[..., list[Any]], outside: modal.Volume, at: str
) -> None:
    fresh(("write", f"{at}/file", "kept"))
    eventually(lambda: f"{at}/file" in listed(outside, "/"))
    assert fresh(("read", f"{at}/file")) == ["kept"]


@pytest.mark.row("Storage", "Volume.reload")
def test_a_volume_with_open_files_is_not_reloaded(one: Callable[..., list[Any]], at: str) -> None:
    opened, closed = one(("write", f"{at}/file", "1"), ("reload with open", f"{at}/file"), ("reload",))[1:]
    assert opened == f"RuntimeError: there are open files preventing the operation: path {at}/file is open"
    assert closed is None
    assert one(("read", f"{at}/file")) == ["1"]


@pytest.mark.row("Storage", "concurrent writers")
def test_of_a_file_the_last_commit_stays_and_of_others_all(
    one: Callable[..., list[Any]], other: Callable[..., list[Any]], outside: modal.Volume, at: str
) -> None:
    one(("write", f"{at}/same", "of one"), ("write", f"{at}/ones", "1"), ("commit",))
    other(("write", f"{at}/same", "of the other"), ("write", f"{at}/others", "2"), ("commit",))
    assert listed(outside, at) == ["ones", "others", "same"]
    assert b"".join(outside.read_file(f"{at}/same")) == b"of the other"
    one(("write", f"{at}/ones", "3"), ("commit",))  # of its other file it has nothing new
    assert b"".join(outside.read_file(f"{at}/same")) == b"of the other"
    assert one(("read", f"{at}/same")) == ["of one"]


@pytest.mark.row("Storage", "Volume.commit")
def test_what_is_removed_and_renamed_is_so_after_a_commit(
    one: Callable[..., list[Any]], other: Callable[..., list[Any]], outside: modal.Volume, at: str
) -> None:
    files = ("gone", "dir/a", "dir/sub/b", "again/old", "last")
    one(*(("write", f"{at}/{file}", file) for file in files), ("commit",))
    told = other(
        ("reload",),
        ("remove", f"{at}/gone"),
        ("rename", f"{at}/dir", f"{at}/moved"),
        ("write", f"{at}/moved/sub/c", "new"),
        ("rmtree", f"{at}/again"),
        ("write", f"{at}/again/new", "new"),
    )
    assert not [answer for answer in told if isinstance(answer, str) and "Error" in answer]
    other(("commit",))
    after = ["again", "again/new", "last", "moved", "moved/a", "moved/sub", "moved/sub/b", "moved/sub/c"]
    assert listed(outside, at) == after
    assert one(("reload",), ("list", at)) == [None, after]
    # What was committed and then removed again by the same container is removed by its next commit.
    other(("remove", f"{at}/again/new"), ("rename", f"{at}/moved", f"{at}/dir"), ("commit",))
    assert listed(outside, at) == ["again", "dir", "dir/a", "dir/sub", "dir/sub/b", "dir/sub/c", "last"]


@pytest.mark.row("Storage", "Volume.commit")
def test_changes_from_outside_are_seen_after_a_reload(
    one: Callable[..., list[Any]], outside: modal.Volume, at: str
) -> None:
    one(("write", f"{at}/kept", "kept"), ("write", f"{at}/removed", "x"), ("commit",))
    outside.remove_file(f"{at}/removed")
    outside.copy_files([f"{at}/kept"], f"{at}/copied")
    assert one(("list", at), ("reload",), ("list", at)) == [["kept", "removed"], None, ["copied", "kept"]]


@pytest.mark.row("Storage", "Volume.with_mount_options")
def test_a_read_only_mount_is_read_and_a_part_is_all_that_is_seen(
    app: DeployedApp, outside: modal.Volume, at: str
) -> None:
    refused, seen = app.function("reads_only").remote(("write", at, "x"), ("list", at))
    assert (refused, seen) == (f"OSError: [Errno 30] Read-only file system: '/shared/{at}'", [])
    written = app.function("in_part").remote(("write", at, "x"), ("commit",), ("reload",), ("read", at))
    assert written == [1, None, None, "x"]
    assert at in listed(outside, "part/of/it")


@pytest.mark.row("Storage", "mount paths")
def test_a_mount_path_leads_to_where_modal_has_the_volume(
    one: Callable[..., list[Any]], outside: modal.Volume, at: str
) -> None:
    assert one(("where", at)) == [f"/__modal/volumes/{outside.hydrate().object_id}/{at}"]


@pytest.mark.row("Storage", "Volume.commit")
@pytest.mark.row("Storage", "Volume.reload")
def test_outside_of_containers_nothing_is_committed_or_reloaded(outside: modal.Volume) -> None:
    with pytest.raises(RuntimeError):
        outside.commit()
    with pytest.raises(RuntimeError):
        outside.reload()


@pytest.mark.slow
@pytest.mark.row("Storage", "background commits")
def test_what_is_written_is_committed_in_the_background(app: DeployedApp, outside: modal.Volume, at: str) -> None:
    call = app.function("writes_and_waits").spawn(at, "from the background", 60.0)
    eventually(lambda: at in listed(outside, "/"))
    assert b"".join(outside.read_file(at)) == b"from the background"
    call.cancel(terminate_containers=True)


@pytest.mark.slow
@pytest.mark.row("Storage", "a container that is killed")
def test_a_container_that_is_killed_takes_along_what_it_has_not_committed(
    app: DeployedApp, outside: modal.Volume, at: str
) -> None:
    assert app.function("dies_once").remote(at) == ["committed"]
    assert listed(outside, at) == ["committed"]
