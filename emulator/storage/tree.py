"""Files and folders of a Volume, as plain files below a root. Everything here blocks, and knows nothing of Modal.

A file is never changed in place: what replaces it is written whole under another name first. So a hard link to a file
is a snapshot of it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_PIECE = 1 << 20


class PathError(ValueError):
    """No path of a Volume: it leads out, be it by a link in the Volume."""


def parts_of(path: str) -> list[str]:
    """The names on a way through a Volume; none for its root. Raises `PathError` for one that goes up."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts or "\0" in path:
        raise PathError(f"{path!r} leads out of the Volume")
    return parts


def inside(root: Path, path: str, *, follow: bool = False) -> Path:
    """Where `path` of a Volume lies on this machine, there yet or not. Raises `PathError`.

    Links on the way are followed as long as they stay inside; one at the end only with `follow`.
    """
    parts = parts_of(path)
    real = root.resolve()
    if not parts:
        return real
    folder = (real / Path(*parts[:-1])).resolve()
    found = folder / parts[-1]
    if follow:
        found = found.resolve()
    if not folder.is_relative_to(real) or not found.is_relative_to(real):
        raise PathError(f"{path!r} leads out of the Volume")
    return found


def walk(folder: Path, *, recursive: bool) -> Iterator[os.DirEntry[str]]:
    """What is in a folder, by name; `recursive`: each folder before what is in it. Links are not followed."""
    try:
        with os.scandir(folder) as scanned:
            entries = sorted(scanned, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):  # it has gone meanwhile
        return
    for entry in entries:
        yield entry
        if recursive and entry.is_dir(follow_symlinks=False):
            yield from walk(Path(entry.path), recursive=True)


def discard(path: Path) -> None:
    """Remove a file, or a folder with all that is in it. Harmless when it is not there."""
    try:
        path.unlink()
    except (FileNotFoundError, NotADirectoryError):
        return
    except (IsADirectoryError, PermissionError):
        if not path.is_dir():
            raise
        shutil.rmtree(path)


def make_parents(root: Path, path: Path) -> None:
    """Make the folders above `path`. Raises `NotADirectoryError` where one of them is a file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        taken = next(at for at in (*reversed(path.parents), path) if at.is_relative_to(root) and not at.is_dir())
        raise NotADirectoryError(f"'/{taken.relative_to(root)}' is a file, not a directory") from None


def copy_any(source: Path, target: Path) -> None:
    """Copy a file, a link, a pipe or a whole folder to where nothing is, with modes and times. Sockets are left out."""
    found = source.lstat()
    if stat.S_ISLNK(found.st_mode):
        target.symlink_to(source.readlink())
    elif stat.S_ISDIR(found.st_mode):
        target.mkdir()
        for entry in walk(source, recursive=False):
            copy_any(Path(entry.path), target / entry.name)
        shutil.copystat(source, target)
    elif stat.S_ISFIFO(found.st_mode):
        os.mkfifo(target, stat.S_IMODE(found.st_mode))
    elif stat.S_ISREG(found.st_mode):
        copy_file(source, target)
        shutil.copystat(source, target)


def copy_file(source: Path, target: Path) -> None:
    """Copy a file's bytes to a new file, holes as holes, without its data passing through this process where it can.

    What is half copied is removed again.
    """
    try:
        with source.open("rb") as given, target.open("xb") as taken:
            size = os.fstat(given.fileno()).st_size
            for start, end in _data(given.fileno(), size):
                _copy_range(given.fileno(), taken.fileno(), start, end)
            taken.truncate(size)
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def _data(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """The ranges of a file that are no holes."""
    if not hasattr(os, "SEEK_DATA"):
        yield 0, size
        return
    at = 0
    while at < size:
        try:
            start = os.lseek(descriptor, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:  # nothing but a hole from here on
                raise
            return
        at = min(size, os.lseek(descriptor, start, os.SEEK_HOLE))
        yield start, at


def _copy_range(source: int, target: int, start: int, end: int) -> None:
    """The kernel's own copy, which shares the blocks on a file system that can; else by hand."""
    if hasattr(os, "copy_file_range"):
        with contextlib.suppress(OSError):
            while start < end and (copied := os.copy_file_range(source, target, end - start, start, start)):
                start += copied
    while start < end and (piece := os.pread(source, min(_PIECE, end - start), start)):
        start += write_at(target, piece, start)


def write_at(descriptor: int, data: bytes, offset: int) -> int:
    """All of `data`, from `offset` on. Returns how much that was."""
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written
    return len(data)


def link_any(source: Path, target: Path) -> None:
    """Show a file, or a folder with all that is in it, at `target` too, where nothing is: files as hard links."""
    found = source.lstat()
    if not stat.S_ISDIR(found.st_mode):
        os.link(source, target, follow_symlinks=False)
        return
    target.mkdir()
    for entry in walk(source, recursive=False):
        with contextlib.suppress(FileNotFoundError):  # it has gone meanwhile
            link_any(Path(entry.path), target / entry.name)
    shutil.copystat(source, target)
