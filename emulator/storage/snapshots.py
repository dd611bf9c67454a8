"""A Volume as it was at one moment, for containers to stand on: a second tree of hard links to the same files.

Making one costs time by the number of files, not by their size, and only where something has changed since the last:
that one is shown again, or, where nobody uses it, brought up to date.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from emulator.ids import new_id
from emulator.storage.tree import discard, link_any

if TYPE_CHECKING:
    import threading
    from pathlib import Path

MOST_CHANGES = 10_000
"""Beyond so many, a new snapshot is made rather than an old one brought up to date."""


class Snapshot:
    """A tree that does not change as long as somebody uses it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.users = 0


class Snapshots:
    """Those of one Volume, at `root`. `lock` is held by whoever changes what is there."""

    def __init__(self, root: Path, scratch: Path, lock: threading.RLock) -> None:
        self._root = root
        self._scratch = scratch
        self._lock = lock
        self._latest: Snapshot | None = None
        self._changed: set[Path] = set()
        """What the latest does not have as it is now: files and folders, with all that is in them."""

    def changed(self, path: Path) -> None:
        """Something is another, is there, or is there no more, at a path of this machine below the root."""
        if self._latest is not None:
            self._changed.add(path)

    def take(self) -> Snapshot:
        """The Volume as it is now, until it is given back."""
        with self._lock:
            latest = self._latest
            if latest is not None and self._changed:
                if latest.users or len(self._changed) > MOST_CHANGES:
                    latest = None
                else:
                    self._catch_up(latest)
            if latest is None:
                latest = self._new()
            latest.users += 1
            return latest

    def _new(self) -> Snapshot:
        made = Snapshot(self._scratch / new_id("tmp"))
        try:
            link_any(self._root.resolve(), made.folder)
        except BaseException:
            shutil.rmtree(made.folder, ignore_errors=True)
            raise
        old, self._latest = self._latest, made
        self._changed.clear()
        if old is not None and not old.users:
            shutil.rmtree(old.folder, ignore_errors=True)
        return made

    def _catch_up(self, snapshot: Snapshot) -> None:
        """Bring one that nobody uses up to date."""
        root = self._root.resolve()
        try:
            for path in sorted(self._changed):
                self._link(path, snapshot.folder / path.relative_to(root), root)
        except BaseException:
            self._latest = None  # half done, and of no use
            shutil.rmtree(snapshot.folder, ignore_errors=True)
            raise
        self._changed.clear()

    def _link(self, path: Path, at: Path, root: Path) -> None:
        missing = [up for up in path.parents if up.is_relative_to(root)]
        if not all(up.is_dir() for up in missing):  # gone with a folder above it, which has changed as well
            return
        at.parent.mkdir(parents=True, exist_ok=True)
        discard(at)
        if path.exists() or path.is_symlink():
            link_any(path, at)

    def give_back(self, snapshot: Snapshot) -> None:
        """Nobody looks at it any more who took it."""
        with self._lock:
            snapshot.users -= 1
            if not snapshot.users and snapshot is not self._latest:
                shutil.rmtree(snapshot.folder, ignore_errors=True)

    def forget(self) -> None:
        """Something may have changed that nobody has told of, or there is nothing any more: keep none for the next."""
        with self._lock:
            if self._latest is not None and not self._latest.users:
                shutil.rmtree(self._latest.folder, ignore_errors=True)
            self._latest = None
            self._changed.clear()
