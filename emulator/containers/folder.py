"""Folders on this machine: one for a runtime, in it one for each container, gone with it, and swept if it crashed."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from emulator.containers.base import ContainerStartError

if TYPE_CHECKING:
    from emulator.containers.base import MountedFile

_PREFIX = "modal-emulator-"
_LOCK = "lock"
_LINKS = "links"
"""Lists, a line each, the links that were made outside of the folder."""
LONGEST_PARENT = 103 - len(f"/{_PREFIX}12345678/s/12345678")
"""Bytes: the path of a Unix socket has 103 at most where it has fewest (macOS), and containers' sockets are inside."""


def temporary_folder() -> Path:
    """The machine's, or `/tmp` where the path of that one is too long to hold sockets."""
    usual = Path(tempfile.gettempdir())
    return usual if len(os.fsencode(usual)) <= LONGEST_PARENT else Path("/tmp")  # noqa: S108 - mkdtemp's, and private


class RunFolder:
    """A private folder that lives as long as its runtime. Making one removes what killed emulators left behind."""

    def __init__(self, parent: Path | None = None) -> None:
        self._parent = parent or temporary_folder()
        sweep(self._parent)
        self.path, self._lock = self._make()

    def _make(self) -> tuple[Path, int]:
        while True:
            path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=self._parent))
            try:
                lock = os.open(path / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            except FileNotFoundError:  # another emulator's sweep took the folder for an abandoned one
                continue
            fcntl.flock(lock, fcntl.LOCK_EX)
            if (path / _LOCK).exists():
                return path, lock
            os.close(lock)  # another emulator's sweep came between the folder and its lock

    def make(self, name: str) -> Path:
        """A new folder in it."""
        (self.path / name).mkdir()
        return self.path / name

    def link(self, path: Path, target: Path) -> None:
        """A link anywhere on this machine, which goes with this folder, or is swept with it. Raises `OSError`."""
        made = json.dumps({"path": str(path), "target": str(target)})
        with (self.path / _LINKS).open("a", encoding="utf-8") as links:
            links.write(made + "\n")  # before the link: one that is written down and not there harms nobody
        path.symlink_to(target)

    def close(self) -> None:
        if self._lock >= 0:
            _unlink(self.path)
            remove(self.path)
            os.close(self._lock)
            self._lock = -1


def sweep(parent: Path) -> None:
    """Remove the folders of emulators that are gone: theirs are the ones whose lock is free."""
    for folder in parent.glob(f"{_PREFIX}*"):
        try:
            if folder.stat().st_uid != os.getuid():
                continue
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            # Another sweep's, or one that has no lock yet: whoever makes it makes another, if it still lives.
            with contextlib.suppress(OSError):
                folder.rmdir()
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _unlink(folder)
            remove(folder)
        except BlockingIOError:
            pass
        finally:
            os.close(lock)


def _unlink(folder: Path) -> None:
    """Remove the links that an emulator's folder lists, as far as they still lead where it let them lead."""
    try:
        lines = (folder / _LINKS).read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        with contextlib.suppress(OSError, ValueError):  # a line that was cut off, a link that is gone
            made = json.loads(line)
            if os.readlink(made["path"]) == made["target"]:  # noqa: PTH115 - as text: no path is normalised
                Path(made["path"]).unlink()


def place_file(file: MountedFile, target: Path) -> None:
    """Copy a container's file to where it sees it: a copy, since a container may write to its files."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file.source, target)
        target.chmod(file.mode & 0o777 | 0o600)
    except OSError as error:
        raise ContainerStartError(f"the container's file {file.path} could not be made: {error}") from error


def below(root: Path, path: str) -> Path:
    """Where the container's absolute `path` lies under `root`. Raises `ContainerStartError` for one that leads out."""
    if not path.startswith("/") or ".." in Path(path).parts:
        raise ContainerStartError(f"a path in a container must be absolute and without '..': {path!r}")
    return root / path.lstrip("/")


def remove(folder: Path) -> None:
    """Remove a folder and all in it, what its containers made read-only included."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        for parent, folders, _ in os.walk(folder):
            for name in folders:
                if not (path := Path(parent, name)).is_symlink():
                    path.chmod(0o700)
        shutil.rmtree(folder, ignore_errors=True)
