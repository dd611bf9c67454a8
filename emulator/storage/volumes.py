"""What is in a Volume: files looked at, taken out, put in, copied and removed. Everything here blocks.

Whoever changes something holds the Volume's `lock`, and says what has changed: containers are shown snapshots.
"""

from __future__ import annotations

import shutil
import stat
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from emulator.ids import new_id
from emulator.storage.snapshots import Snapshots
from emulator.storage.tree import PathError, copy_any, discard, inside, make_parents, parts_of, walk

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence
    from pathlib import Path


@dataclass(frozen=True)
class Entry:
    """A file or folder as a listing has it."""

    path: str
    """From the Volume's root on, without a slash before it."""
    mode: int
    """With its kind, as in `st_mode`."""
    size: int
    mtime: float


@dataclass(frozen=True)
class NewFile:
    """A file that is whole, under another name in the same file system, and where it is to be in the Volume."""

    source: Path
    path: str
    mode: int


class VolumeFiles:
    """One Volume: a folder of plain files. `scratch` makes a name in the same file system for what is not whole yet."""

    def __init__(self, root: Path, scratch: Path) -> None:
        self.root = root
        self.lock = threading.RLock()
        self.scratch = scratch
        self.deleted = False
        self.snapshots = Snapshots(root, scratch, self.lock)
        root.mkdir(parents=True, exist_ok=True)

    def temporary(self) -> Path:
        """A name that nothing has yet."""
        return self.scratch / new_id("tmp")

    def find(self, path: str) -> Path:
        """An existing file or folder, links followed. Raises `FileNotFoundError` or `PathError`."""
        found = inside(self.root, path, follow=True)
        if not found.exists():
            raise FileNotFoundError(f"No such file or directory: '{path}'")
        return found

    def entries(self, path: str, *, recursive: bool) -> Iterator[Entry]:
        """What is in a folder; of a file, itself. Raises `FileNotFoundError` or `PathError`, before the first."""
        found = self.find(path)
        if not found.is_dir():
            yield self._entry(inside(self.root, path))
            return
        root = self.root.resolve()
        for entry in walk(found, recursive=recursive):
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:  # it has gone meanwhile
                continue
            yield _entry(entry.path[len(str(root)) + 1 :], status)

    def _entry(self, at: Path) -> Entry:
        return _entry(str(at.relative_to(self.root.resolve())), at.lstat())

    def check(self, paths: Sequence[str], *, overwrite: bool) -> None:
        """Raise what would keep files from being put there: `FileExistsError`, `NotADirectoryError`, `PathError`."""
        for path in paths:
            at = inside(self.root, path)
            if not parts_of(path) or at.is_dir():
                raise FileExistsError(f"'{path}' is a directory, which no file can replace")
            if not overwrite and (at.exists() or at.is_symlink()):
                raise FileExistsError(f"'{path}' already exists")
            above = next(up for up in at.parents if up.exists())
            if not above.is_dir():
                raise NotADirectoryError(f"'/{above.relative_to(self.root.resolve())}' is a file, not a directory")

    def put(self, files: Sequence[NewFile], *, overwrite: bool) -> None:
        """Move whole files in: all of them, or, where one may not be put there, none."""
        with self.lock:
            self.check([file.path for file in files], overwrite=overwrite)
            for file in files:
                at = inside(self.root, file.path)
                make_parents(self.root.resolve(), at)
                file.source.chmod(file.mode & 0o7777)
                file.source.replace(at)
                self.snapshots.changed(at)

    def remove(self, path: str, *, recursive: bool) -> None:
        """Raises `FileNotFoundError`, `PathError`, and `IsADirectoryError` for a folder without `recursive`."""
        with self.lock:
            at = inside(self.root, path)
            if not parts_of(path):
                raise PathError("the root of a Volume can not be removed: delete the Volume, or remove what is in it")
            if not at.exists() and not at.is_symlink():
                raise FileNotFoundError(f"No such file or directory: '{path}'")
            if at.is_dir() and not at.is_symlink() and not recursive:
                raise IsADirectoryError(f"'{path}' is a directory, which is removed with `recursive` only")
            discard(at)
            self.snapshots.changed(at)

    def copy(self, sources: Sequence[str], target: str, *, recursive: bool) -> None:
        """As `cp` does, or nothing at all. Raises as `remove` does, and `NotADirectoryError`."""
        with self.lock:
            into = inside(self.root, target, follow=True)
            wanted = [(self._copied(path, recursive=recursive), path) for path in sources]
            folder = into.is_dir()
            if not folder and (len(sources) != 1 or (target.endswith("/") and not wanted[0][0].is_dir())):
                raise NotADirectoryError(f"'{target}' is not a directory")
            if not into.parent.is_dir():
                raise FileNotFoundError(f"No such file or directory: '{target}'")
            for source, path in wanted:
                self._copy_to(source, into / source.name if folder else into, path, target)

    def _copied(self, path: str, *, recursive: bool) -> Path:
        source = self.find(path)
        if source.is_dir() and not recursive:
            raise IsADirectoryError(f"'{path}' is a directory, which is copied with `recursive` only")
        return source

    def _copy_to(self, source: Path, at: Path, path: str, target: str) -> None:
        if at == source or (source.is_dir() and at.is_relative_to(source)):
            raise PathError(f"'{path}' can not be copied to '{target}': that is itself, or in it")
        if at.is_dir() and not source.is_dir():
            raise IsADirectoryError(f"'{target}' has a directory of the name '{source.name}'")
        if source.is_dir() and at.exists() and not at.is_dir():
            raise NotADirectoryError(f"'{target}' is a file, which no directory can replace")
        whole = self.temporary()
        try:
            copy_any(source, whole)
            self._merge(whole, at)
        finally:
            discard(whole)

    def _merge(self, whole: Path, at: Path) -> None:
        """Move what was copied to where it is to be, into folders that are there already."""
        if whole.is_dir() and not whole.is_symlink() and at.is_dir():
            for entry in walk(whole, recursive=False):
                self._merge(whole / entry.name, at / entry.name)
            return
        if at.is_dir():
            raise IsADirectoryError(f"a file can not replace the directory '{at.name}'")
        whole.replace(at)
        self.snapshots.changed(at)

    def part(self, sub_path: str) -> Path:
        """The folder of a mount's `sub_path`, made where it is not there. Raises `PathError` or `OSError`."""
        with self.lock:
            folder = inside(self.root, sub_path, follow=True)
            if not folder.is_dir():
                folder.mkdir(parents=True)
                self.snapshots.changed(folder)
            return folder

    def delete(self) -> None:
        """Remove the Volume, and what it shows nobody any more."""
        with self.lock:
            self.deleted = True
            self.snapshots.forget()
            gone = self.temporary()
            self.root.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


def _entry(path: str, status: os.stat_result) -> Entry:
    return Entry(path, status.st_mode, 0 if stat.S_ISDIR(status.st_mode) else status.st_size, status.st_mtime)
