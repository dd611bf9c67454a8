"""`Sandbox.filesystem`: files of a Sandbox that runs."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import modal
import pytest
from modal.exception import (
    SandboxFilesystemDirectoryNotEmptyError,
    SandboxFilesystemIsADirectoryError,
    SandboxFilesystemNotADirectoryError,
    SandboxFilesystemNotFoundError,
    SandboxFilesystemPathAlreadyExistsError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.parity.kit import Target


@pytest.fixture(scope="module")
def box(target: Target, sandbox_app: modal.App) -> Iterator[modal.Sandbox]:
    sandbox = modal.Sandbox.create(app=sandbox_app, client=target.client, timeout=600)
    yield sandbox
    sandbox.terminate()


@pytest.mark.row("Sandboxes", "filesystem")
def test_files_are_written_read_listed_described_and_removed(box: modal.Sandbox, tmp_path: Path) -> None:
    files = box.filesystem
    files.write_text("żółw", "/data/deep/file.txt")
    assert files.read_text("/data/deep/file.txt") == "żółw"
    box.exec("ln", "-s", "file.txt", "/data/deep/link").wait()
    file, link = files.list_files("/data/deep")
    assert (file.name, file.path, file.is_file(), file.size) == ("file.txt", "/data/deep/file.txt", True, 7)
    assert (link.is_symlink(), link.symlink_target) == (True, "file.txt")
    assert files.stat("/data/deep").is_dir()
    local = tmp_path / "there.bin"
    local.write_bytes(bytes(range(256)) * 4096)
    files.copy_from_local(local, "/data/there.bin")
    files.copy_to_local("/data/there.bin", tmp_path / "back.bin")
    assert (tmp_path / "back.bin").read_bytes() == local.read_bytes()
    with pytest.raises(SandboxFilesystemDirectoryNotEmptyError):
        files.remove("/data")
    files.remove("/data", recursive=True)
    with pytest.raises(SandboxFilesystemNotFoundError):
        files.read_bytes("/data/there.bin")


@pytest.mark.slow
@pytest.mark.row("Sandboxes", "filesystem")
def test_what_can_not_be_done_is_told_by_its_own_error(box: modal.Sandbox) -> None:
    files = box.filesystem
    files.make_directory("/made/below")
    files.make_directory("/made/below")
    files.write_bytes(b"", "/made/file")
    with pytest.raises(SandboxFilesystemPathAlreadyExistsError):
        files.make_directory("/made/below", create_parents=False)
    with pytest.raises(SandboxFilesystemNotFoundError):
        files.make_directory("/made/not/there", create_parents=False)
    with pytest.raises(SandboxFilesystemIsADirectoryError):
        files.read_bytes("/made")
    with pytest.raises(SandboxFilesystemIsADirectoryError):
        files.write_bytes(b"", "/made")
    with pytest.raises(SandboxFilesystemNotADirectoryError):
        files.list_files("/made/file")
    with pytest.raises(SandboxFilesystemNotADirectoryError):
        files.write_bytes(b"", "/made/file/below")
    with pytest.raises(SandboxFilesystemNotFoundError):
        files.stat("/not/there")


@pytest.mark.slow
@pytest.mark.row("Sandboxes", "filesystem")
def test_a_file_of_fifty_megabytes_goes_there_and_back(box: modal.Sandbox) -> None:
    data = bytes(range(250)) * 200_000
    box.filesystem.write_bytes(data, "/large.bin")
    assert box.filesystem.read_bytes("/large.bin") == data
    box.filesystem.remove("/large.bin")


@pytest.mark.slow
@pytest.mark.since("1.6")
@pytest.mark.row("Sandboxes", "filesystem.watch")
def test_changes_are_seen_as_they_happen(box: modal.Sandbox) -> None:
    files = box.filesystem
    files.make_directory("/watched/below")
    seen: list[tuple[str, list[str]]] = []
    first = threading.Event()

    def watch() -> None:
        for event in files.watch("/watched", recursive=True, timeout=60):
            seen.append((event.type.value, event.paths))
            first.set()
            if any(path.endswith("last") for path in event.paths):
                return

    watching = threading.Thread(target=watch)
    watching.start()
    while not first.wait(0.1):  # what comes before it watches is not seen
        files.write_text("x", "/watched/first")
    box.exec("sh", "-c", "cd /watched; mkdir new; mv first below/second; rm below/second; touch last").wait()
    watching.join(60)
    assert not watching.is_alive()
    assert ("Create", ["/watched/new"]) in seen
    assert ("Modify", ["/watched/first", "/watched/below/second"]) in seen
    assert ("Remove", ["/watched/below/second"]) in seen


@pytest.mark.slow
@pytest.mark.since("1.6")
@pytest.mark.row("Sandboxes", "filesystem.watch")
def test_a_watch_ends_with_its_time_and_needs_something_to_watch(box: modal.Sandbox) -> None:
    assert list(box.filesystem.watch("/tmp", timeout=1)) == []
    with pytest.raises(SandboxFilesystemNotFoundError):
        list(box.filesystem.watch("/not/there", timeout=1))
