"""`emulator state`: all that is kept as one file, put back, forgotten; and files that are not what they should be."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from emulator.storage.archive import export, reset, restore
from emulator.storage.claim import UNFINISHED, Claim, unfinished
from emulator.storage.sqlite_store import SqliteStore
from emulator.storage.store import FORMAT, NotKeptError, StateError
from tests.emulator.cli_kit import COMMAND, environment


def emulator(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, "state", *arguments], cwd=cwd, env=environment(), capture_output=True, text=True, check=False
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A state directory with a record, and a Volume with a folder that nobody may write to, a link and a program."""
    made = tmp_path / ".modal-emulator"
    with Claim(made):
        store = SqliteStore(made / "state.sqlite3")
        store.put("secret", "st-1", b"hush")
        store.close()
    volume = made / "volumes" / "vo-1"
    volume.mkdir(parents=True)
    (volume / "program").write_text("#!/bin/sh\n")
    (volume / "program").chmod(0o755)
    (volume / "link").symlink_to("program")
    (volume / "sealed").mkdir()
    (volume / "sealed" / "file").write_text("in it")
    (volume / "sealed").chmod(0o555)
    (made / "images").mkdir()
    (made / "images" / "large").write_bytes(b"made anew elsewhere")
    return made


def secret(folder: Path) -> bytes | None:
    store = SqliteStore(folder / "state.sqlite3")
    try:
        return store.get("secret", "st-1")
    finally:
        store.close()


@pytest.mark.slow
def test_what_is_exported_can_be_imported_elsewhere(folder: Path, tmp_path: Path) -> None:
    told = emulator("export", "kept.tar.gz", cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    assert "Secrets are in it, so its mode is 0600" in told.stdout
    assert (tmp_path / "kept.tar.gz").stat().st_mode & 0o777 == 0o600

    told = emulator("import", "kept.tar.gz", "--state", "other", cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    other = tmp_path / "other"
    assert secret(other) == b"hush"
    volume = other / "volumes" / "vo-1"
    assert os.access(volume / "program", os.X_OK)
    assert (volume / "link").readlink() == Path("program")
    assert (volume / "sealed" / "file").read_text() == "in it"
    assert not (other / "images").exists()
    assert other.stat().st_mode & 0o777 == 0o700
    assert {path.name for path in other.iterdir()} == {"lock", "state.sqlite3", "volumes"}

    (tmp_path / "kept.tar.gz").chmod(0o644)
    told = emulator("export", "kept.tar.gz", cwd=tmp_path)
    assert (told.returncode, "File exists" in told.stderr) == (1, True)


def test_what_is_there_is_replaced_only_where_that_is_asked_for(folder: Path, tmp_path: Path) -> None:
    export(folder, tmp_path / "kept.tar")
    (folder / "volumes" / "vo-1" / "new").write_text("since then")
    with pytest.raises(StateError, match=r"something is kept in .* already: --replace"):
        restore(folder, tmp_path / "kept.tar")
    assert (folder / "volumes" / "vo-1" / "new").exists()
    restore(folder, tmp_path / "kept.tar", replace=True)
    assert secret(folder) == b"hush"
    assert not (folder / "volumes" / "vo-1" / "new").exists()
    assert (folder / "images" / "large").exists()


@pytest.mark.slow
def test_reset_asks_and_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    asked = subprocess.run(
        [*COMMAND, "state", "reset"],
        cwd=tmp_path,
        env=environment(),
        input="n\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert asked.returncode == 130
    assert "will be lost. Go on? [y/N]" in asked.stdout
    assert secret(folder) == b"hush"
    assert emulator("reset", "--yes", cwd=tmp_path).returncode == 0
    assert {path.name for path in folder.iterdir()} == {"lock"}


def test_none_of_it_is_done_beside_an_emulator(folder: Path, tmp_path: Path) -> None:
    export(folder, tmp_path / "kept.tar")
    told = f"process {os.getpid()} uses the state in {folder}: stop it"
    with Claim(folder):
        with pytest.raises(StateError, match=told):
            export(folder, tmp_path / "again.tar")
        with pytest.raises(StateError, match=told):
            restore(folder, tmp_path / "kept.tar", replace=True)
        with pytest.raises(StateError, match=told):
            reset(folder)
    assert not (tmp_path / "again.tar").exists()


def test_an_import_that_was_killed_on_its_way_is_told_and_can_be_done_again(folder: Path, tmp_path: Path) -> None:
    export(folder, tmp_path / "kept.tar")
    broken = unfinished(folder, "the import of kept.tar")
    broken.__enter__()
    with pytest.raises(StateError, match=r"the import of kept.tar did not come to its end"):
        Claim(folder)
    restore(folder, tmp_path / "kept.tar", replace=True)
    assert not (folder / UNFINISHED).exists()
    with Claim(folder):
        assert secret(folder) == b"hush"


def test_a_file_that_is_not_whole_or_not_ours_is_told_and_changes_nothing(folder: Path, tmp_path: Path) -> None:
    whole = tmp_path / "kept.tar"
    export(folder, whole)
    data = whole.read_bytes()
    bad = {
        "cut": (data[: len(data) // 2], "damaged|not whole"),
        "short": (data[:1024] + bytes(1024), "not whole: 0 entries of"),
        "text": (b"hello", "damaged, or not written by"),
        "newer": (data.replace(f'"format": {FORMAT}'.encode(), b'"format": 9'), "a newer emulator"),
    }
    for name, (content, told) in bad.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(StateError, match=told):
            restore(folder, tmp_path / name, replace=True)
        assert secret(folder) == b"hush"
    with tarfile.open(tmp_path / "foreign.tar", "w") as archive:
        archive.add(__file__, "some.py")
    with pytest.raises(StateError, match="was not written by `emulator state export`"):
        restore(folder, tmp_path / "foreign.tar", replace=True)


def test_an_archive_can_not_write_outside_of_the_directory(folder: Path, tmp_path: Path) -> None:
    (folder / "volumes" / "out").symlink_to(tmp_path)
    export(folder, tmp_path / "kept.tar")
    with tarfile.open(tmp_path / "kept.tar") as archive, tarfile.open(tmp_path / "evil.tar", "w") as evil:
        for member in archive:
            evil.addfile(member, archive.extractfile(member) if member.isfile() else None)
            if member.name == "volumes/out":
                evil.add(__file__, "volumes/out/escaped")
    with pytest.raises(StateError, match="outside the destination"):
        restore(folder, tmp_path / "evil.tar", replace=True)
    assert not (tmp_path / "escaped").exists()


def test_a_damaged_an_empty_and_a_newer_file_are_told_by_name(folder: Path) -> None:
    path = folder / "state.sqlite3"
    good = path.read_bytes()
    for content, told in (
        (b"", "is empty or no emulator's"),
        (good[:100] + b"\xff" * (len(good) - 100), "damaged|can not be read"),
        (b"not a database at all" * 100, "can not be read: file is not a database"),
    ):
        path.write_bytes(content)
        with pytest.raises(StateError, match=f"{path} .*({told})"):
            SqliteStore(path)
        assert path.read_bytes() == content
    path.write_bytes(good)
    with sqlite3.connect(path) as database:
        database.execute(f"PRAGMA user_version = {FORMAT + 1}")
    with pytest.raises(StateError, match=rf"was kept by a newer emulator \(format {FORMAT + 1}, not {FORMAT}\)"):
        SqliteStore(path)


def test_records_are_kept_all_together_or_not_at_all_and_again_with_the_next(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite3"
    store = SqliteStore(path)
    store.put("kind", "1", b"first")
    store.commit()
    other = sqlite3.connect(path, isolation_level=None)
    store._connection.execute("PRAGMA busy_timeout = 0")
    other.execute("BEGIN IMMEDIATE")
    store.put("kind", "2", b"second")
    store.delete("kind", "1")
    with pytest.raises(NotKeptError, match=f"could not be kept in {path}: database is locked"):
        store.commit()
    other.execute("ROLLBACK")
    assert list(store.rows("kind")) == [("1", b"first")]
    store.put("kind", "3/a", b"third")
    store.put("kind", "3/b", b"fourth")
    store.commit()
    assert [key for key, _ in store.rows("kind")] == ["2", "3/a", "3/b"]
    store.put("kind", "3/c", b"not committed yet")
    store.delete_prefix("kind", "3/")
    store.close()
    other.close()
    again = SqliteStore(path)
    assert list(again.rows("kind")) == [("2", b"second")]
    again.close()


@pytest.mark.slow
def test_nothing_of_it_is_imported_where_nothing_is_kept() -> None:
    code = (
        "import sys\nfrom emulator.emulator import Emulator\n"
        "with Emulator(): print([name for name in sys.modules if name in ('sqlite3', 'emulator.kept')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=False)
    assert done.stdout == "[]\n", done.stderr
