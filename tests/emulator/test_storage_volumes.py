"""A Volume's folder: the part of it that a container sees, paths that lead out of it, and what is shown of it when."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from emulator.storage.changes import Change, apply, stage
from emulator.storage.tree import PathError, copy_any, inside
from emulator.storage.volumes import NewFile, VolumeFiles

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def files(tmp_path: Path) -> VolumeFiles:
    (tmp_path / "scratch").mkdir()
    return VolumeFiles(tmp_path / "volume", tmp_path / "scratch")


def put(files: VolumeFiles, path: str, content: str) -> None:
    whole = files.temporary()
    whole.write_text(content)
    files.put([NewFile(whole, path, 0o644)], overwrite=True)


def test_a_part_is_a_folder_in_the_volume_there_yet_or_not(files: VolumeFiles) -> None:
    assert files.part("") == files.root
    assert files.part("/") == files.root
    assert files.part("/models/small/") == files.root / "models" / "small"
    assert (files.root / "models" / "small").is_dir()


@pytest.mark.parametrize("path", ["..", "../../../..", "a/../../other", "a/..", "link", "link/more"])
def test_a_path_that_leads_out_of_the_volume_is_refused(files: VolumeFiles, tmp_path: Path, path: str) -> None:
    (files.root / "link").symlink_to(tmp_path)
    with pytest.raises(PathError, match=r"leads out of the Volume"):
        files.part(path)
    with pytest.raises(PathError, match=r"leads out of the Volume"):
        files.find(path)


def test_a_link_that_leads_out_is_removed_and_replaced_as_itself(files: VolumeFiles, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("mine")
    for link in ("one", "two"):
        (files.root / link).symlink_to(tmp_path / "outside")
    files.remove("one", recursive=False)
    put(files, "two", "its own")
    assert (tmp_path / "outside").read_text() == "mine"
    assert inside(files.root, "two").read_text() == "its own"


def test_a_snapshot_stays_as_it_was_and_the_next_is_as_it_is(files: VolumeFiles) -> None:
    put(files, "kept", "kept")
    put(files, "dir/changed", "before")
    put(files, "removed", "x")
    old = files.snapshots.take()
    put(files, "dir/changed", "after")
    put(files, "dir/new/file", "new")
    files.remove("removed", recursive=False)
    new = files.snapshots.take()
    assert (old.folder / "dir/changed").read_text() == "before"
    assert (old.folder / "removed").exists()
    assert not (old.folder / "dir/new").exists()
    assert (new.folder / "dir/changed").read_text() == "after"
    assert (new.folder / "dir/new/file").read_text() == "new"
    assert not (new.folder / "removed").exists()
    assert (new.folder / "kept").samefile(files.root / "kept")
    files.snapshots.give_back(old)
    assert not old.folder.exists()


def test_a_snapshot_is_shown_again_and_brought_up_to_date_when_nobody_uses_it(files: VolumeFiles) -> None:
    put(files, "dir/sub/a", "a")
    first = files.snapshots.take()
    assert files.snapshots.take() is first
    files.snapshots.give_back(first)
    files.snapshots.give_back(first)
    put(files, "dir/sub/b", "b")
    files.remove("dir/sub/a", recursive=False)
    put(files, "other/c", "c")
    files.remove("other", recursive=True)
    put(files, "other", "a file now")
    second = files.snapshots.take()
    assert second.folder == first.folder
    found = sorted(str(path.relative_to(second.folder)) for path in second.folder.rglob("*"))
    assert found == ["dir", "dir/sub", "dir/sub/b", "other"]
    assert (second.folder / "other").read_text() == "a file now"


def test_a_copy_has_the_holes_the_links_and_the_modes(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    with (source / "sparse").open("wb") as file:
        file.truncate(64 << 20)
        file.seek(32 << 20)
        file.write(b"x")
    (source / "sparse").chmod(0o750)
    (source / "link").symlink_to("sparse")
    copy_any(source, tmp_path / "copy")
    copied = (tmp_path / "copy" / "sparse").stat()
    assert (copied.st_size, copied.st_mode & 0o777) == (64 << 20, 0o750)
    assert copied.st_blocks * 512 < 8 << 20
    assert (tmp_path / "copy" / "sparse").read_bytes() == (source / "sparse").read_bytes()
    assert (tmp_path / "copy" / "link").readlink() == (source / "link").readlink()


def test_a_commit_never_writes_through_a_link_that_another_has_put_there(files: VolumeFiles, tmp_path: Path) -> None:
    outside, upper, staged = tmp_path / "outside", tmp_path / "upper", tmp_path / "staged"
    (outside / "sub").mkdir(parents=True)
    (outside / "sub" / "file").write_text("mine")
    (files.root / "dir").symlink_to(outside)
    (upper / "dir" / "new").mkdir(parents=True)
    staged.write_text("committed")
    gone = Change("removed", "dir/sub/file")
    apply([gone], {}, files.root)
    apply(
        [Change("directory", "dir/sub", upper / "dir"), Change("file", "dir/new", staged)],
        {"dir/new": staged},
        files.root,
    )
    assert (outside / "sub" / "file").read_text() == "mine"
    assert sorted(path.name for path in outside.iterdir()) == ["sub"]
    assert (files.root / "dir" / "new").read_text() == "committed"


def test_a_commit_that_does_not_fit_leaves_nothing(files: VolumeFiles, tmp_path: Path) -> None:
    (tmp_path / "upper").mkdir()
    (tmp_path / "upper" / "one").write_text("1")
    found = [Change("file", "one", tmp_path / "upper" / "one"), Change("file", "two", tmp_path / "upper")]
    made: list[Path] = []

    def temporary() -> Path:
        if made:
            raise OSError(errno.ENOSPC, "No space left on device")
        made.append(files.temporary())
        return made[0]

    with pytest.raises(OSError, match="No space left"):
        stage(found, temporary)
    assert list(files.scratch.iterdir()) == []
    assert list(files.root.iterdir()) == []
