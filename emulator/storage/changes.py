"""What a container has changed of a Volume, found in the upper folder of its overlay, and taken over into the Volume.

What an overlay keeps there is told in the kernel's documentation (filesystems/overlayfs): a removed file is a character
device 0/0, a directory that replaces one is marked opaque, one that was renamed is marked with where it was.
"""

from __future__ import annotations

import os
import stat
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from emulator.storage.tree import copy_any, discard, link_any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

What = Literal["removed", "directory", "moved", "file"]

_KINDS = ("trusted", "user")
_TICK = 0.02
"""Seconds, longer than a tick of any file system's clock: two writes within one leave the same times."""


@dataclass(frozen=True)
class Change:
    """Something at `path` of the Volume. Changes are made in order: what is in a directory comes after it."""

    what: What
    path: str
    source: Path = Path()
    """What is there now: of a directory that was moved, what it was, below."""
    signature: object = None
    """By which it is known not to have changed since. None: there is nothing any more."""


class Changes:
    """Those of one container. `lower` and `upper` are the layers of its overlay, `probe` a file beside them."""

    def __init__(self, lower: Path, upper: Path, probe: Path) -> None:
        self._lower = lower
        self._upper = upper
        self._probe = probe
        self._now = 0
        self._written = False
        """Whether something was written to within this tick."""
        self._seen: set[str] = set()
        self._taken: dict[str, object] = {}
        """The signature of each change that the Volume has already."""

    def find(self) -> list[Change]:
        """What has changed since the last `took`."""
        found = self._find()
        if self._written:  # what is written now is told apart from what was only when the next tick has come
            threading.Event().wait(_TICK)
            found = self._find()
        return found

    def _find(self) -> list[Change]:
        self._seen = set()
        self._written = False
        self._probe.write_bytes(b"")
        self._now = self._probe.stat().st_mtime_ns
        found = list(self._walk("", "", hidden=False))
        gone = (path for path in self._taken.keys() - self._seen if self._taken[path] != "removed")
        return [*found, *(Change("removed", path) for path in sorted(gone, reverse=True))]

    def took(self, changes: list[Change]) -> None:
        """The Volume has them now."""
        for change in changes:
            if change.signature is None:
                del self._taken[change.path]
            else:
                self._taken[change.path] = change.signature

    def _walk(self, path: str, origin: str | None, *, hidden: bool) -> Iterator[Change]:
        """Changes in a directory. `origin`: the one of `lower` below it. `hidden`: nothing of that shows any more."""
        folder = self._upper / path
        names = set()
        for entry in _entries(folder):
            names.add(entry.name)
            below = f"{path}/{entry.name}" if path else entry.name
            under = None if origin is None else f"{origin}/{entry.name}" if origin else entry.name
            try:
                yield from self._entry(entry, below, under, hidden=hidden)
            except FileNotFoundError:  # it has gone meanwhile: what is there then is found the next time
                continue
        if hidden and origin is not None:
            for entry in _entries(self._lower / origin):
                if entry.name not in names:
                    yield from self._once("removed", f"{path}/{entry.name}", Path(), "removed")

    def _entry(self, entry: os.DirEntry[str], path: str, origin: str | None, *, hidden: bool) -> Iterator[Change]:
        status = entry.stat(follow_symlinks=False)
        kind = stat.S_IFMT(status.st_mode)
        source = Path(entry.path)
        if kind == stat.S_IFCHR and status.st_rdev == 0:
            yield from self._once("removed", path, Path(), "removed")
        elif kind == stat.S_IFDIR:
            yield from self._directory(source, path, origin, status, hidden=hidden)
        elif kind in (stat.S_IFREG, stat.S_IFLNK, stat.S_IFIFO):
            known = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_mode)
            if self._taken.get(path) != known and max(status.st_mtime_ns, status.st_ctime_ns) >= self._now:
                self._written = True
                yield from self._once("file", path, source, object())  # which is looked at again the next time
            else:
                yield from self._once("file", path, source, known)

    def _directory(
        self, source: Path, path: str, origin: str | None, status: os.stat_result, *, hidden: bool
    ) -> Iterator[Change]:
        moved = _mark(source, "redirect")
        opaque = _mark(source, "opaque") == b"y"
        if moved:
            name = os.fsdecode(moved)
            parent = "" if origin is None else origin.rpartition("/")[0]
            origin = name[1:] if name.startswith("/") else f"{parent}/{name}".lstrip("/")
            yield from self._once("moved", path, self._lower / origin, ("moved", origin, status.st_ino))
        else:
            yield from self._once("directory", path, source, (status.st_ino, status.st_mode))
        yield from self._walk(path, origin, hidden=not moved and (hidden or opaque))

    def _once(self, what: What, path: str, source: Path, signature: object) -> Iterator[Change]:
        self._seen.add(path)
        if self._taken.get(path) != signature:
            yield Change(what, path, source, signature)


def stage(changes: list[Change], temporary: Callable[[], Path]) -> dict[str, Path]:
    """Copies of the files, under other names: all of them, or none where one does not fit. By path.

    Of directories that were moved, all that was in them, as hard links: the layer below never changes.
    """
    staged: dict[str, Path] = {}
    try:
        for change in changes:
            if change.what in ("file", "moved"):
                whole = temporary()
                staged[change.path] = whole
                try:
                    (copy_any if change.what == "file" else link_any)(change.source, whole)
                except FileNotFoundError:  # it has gone meanwhile
                    discard(whole)
                    del staged[change.path]
    except BaseException:
        for whole in staged.values():
            discard(whole)
        raise
    return staged


def apply(changes: list[Change], staged: dict[str, Path], root: Path) -> list[Path]:
    """Make the changes below `root`, and return what has changed. What stands in their way is replaced."""
    touched: list[Path] = []
    for change in changes:
        at = root / change.path
        above = [up for up in reversed(at.parents) if up != root and up.is_relative_to(root)]
        if change.what == "removed":
            if not any(up.is_symlink() for up in above):  # else it has gone with the directory that was there
                discard(at)
                touched.append(at)
            continue
        for up in above:
            touched += _make_directory(up)
        if change.what == "directory":
            touched += _make_directory(at)
            touched += _give_mode(at, change.source)
        elif change.path in staged:
            if (at.is_dir() and not at.is_symlink()) or change.what == "moved":
                discard(at)
            staged[change.path].replace(at)
            touched.append(at)
    return touched


def _make_directory(at: Path) -> list[Path]:
    """Whatever another has put there meanwhile. Returns what has changed."""
    if at.is_dir() and not at.is_symlink():
        return []
    discard(at)
    at.mkdir()
    return [at]


def _give_mode(at: Path, source: Path) -> list[Path]:
    """A directory's, as far as the one that has it is still there. Returns what has changed."""
    try:
        mode = stat.S_IMODE(source.stat().st_mode)
    except FileNotFoundError:
        return []
    if stat.S_IMODE(at.stat().st_mode) == mode:
        return []
    at.chmod(mode)
    return [at]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as scanned:
            return sorted(scanned, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _mark(folder: Path, name: str) -> bytes:
    """What the kernel has noted of a directory of an upper layer."""
    for kind in _KINDS:
        try:
            return os.getxattr(folder, f"{kind}.overlay.{name}", follow_symlinks=False)
        except OSError:
            continue
    return b""
