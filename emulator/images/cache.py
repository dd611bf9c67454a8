"""Environments that were built, on disk, by what is in them. Shared by emulators that run at once.

    index/<key>.json      what is whole: which tree has it, and what it is; written last, at once
    trees/<name>/         an environment: `python/`, and `lock`, held (shared) by whoever builds or uses it
    clients/<key>/        the `modal` client and what it needs, for environments that have no such packages
    keys/<key>            held (alone) by whoever builds that

A tree that no index names and nobody holds was left half-made by an emulator that was killed, or replaced: it is swept.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from emulator.containers.folder import remove
from emulator.storage.private import private

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_SHOWN_KEY = 16


@dataclass(frozen=True)
class Entry:
    """One environment that is whole."""

    key: str
    tree: str
    python: str
    commands: tuple[str, ...]
    """What it was built by, the oldest first."""
    made_at: float
    """Seconds since the epoch."""


FOLDER_VARIABLE = "EMULATOR_IMAGES"
"""Names the folder of environments, for all emulators."""


def chosen_folder(machine: Mapping[str, str], state: Path | None) -> Path:
    """Where environments are kept: with the state, or, for emulators that keep none, in one folder for each user."""
    if named := machine.get(FOLDER_VARIABLE):
        return Path(named).absolute()
    if state is not None:
        return state.absolute() / "images"
    base = machine.get("XDG_CACHE_HOME") or Path(machine.get("HOME") or "~").expanduser() / ".cache"
    return Path(base) / "modal-emulator/images"


class EnvironmentCache:
    """Blocks, but never for longer than files take: waiting for another's build is the caller's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._held: dict[str, int] = {}

    def find(self, key: str) -> Path | None:
        """The environment of that key, from now on held, or None where nobody has built it."""
        with self._alone():
            entry = self._entry(self._index(key))
            if entry is None or not self._hold(entry.tree):
                return None
            return self._trees / entry.tree / "python"

    def new_tree(self, key: str) -> Path:
        """Where to build: held, and swept if it is never published."""
        with self._alone():
            name = f"{key[:_SHOWN_KEY]}-{secrets.token_hex(4)}"
            (self._trees / name).mkdir(parents=True)
            self._hold(name)
            return self._trees / name / "python"

    def publish(self, entry: Entry) -> None:
        """Make a tree that is whole the one of its key."""
        with self._alone():
            target = self._index(entry.key)
            partial = target.with_suffix(f".{entry.tree}")
            partial.write_text(json.dumps(asdict(entry)), encoding="utf-8")
            partial.replace(target)

    def give_up(self, tree: str) -> None:
        """Remove what was not built to its end."""
        self._release(tree)
        remove(self._trees / tree)

    def try_key(self, key: str) -> int | None:
        """Become the one who builds that key, until the descriptor is closed. None while another is."""
        private(self.folder / "keys")
        descriptor = os.open(self.folder / "keys" / key, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    def entries(self) -> list[Entry]:
        """All that are whole, the newest first."""
        found = [entry for path in self.folder.glob("index/*.json") if (entry := self._entry(path)) is not None]
        return sorted(found, key=lambda entry: -entry.made_at)

    def sweep(self) -> None:
        """Remove trees that no index names and nobody holds."""
        with self._alone():
            named = {entry.tree for entry in self.entries()}
            for tree in self._trees.glob("*"):
                if tree.name not in named and self._is_free(tree):
                    remove(tree)

    def prune(self) -> tuple[int, int]:
        """Remove every environment that nobody uses. How many went, and how many stay in use."""
        gone = kept = 0
        with self._alone():
            for entry in self.entries():
                if self._is_free(self._trees / entry.tree):
                    self._index(entry.key).unlink(missing_ok=True)
                    remove(self._trees / entry.tree)
                    gone += 1
                else:
                    kept += 1
            if not kept:
                remove(self.folder / "clients")
        self.sweep()
        return gone, kept

    def size(self, tree: str = "") -> int:
        """Bytes on disk: of one tree, or of everything, where files that several trees share count once."""
        return _bytes_below(self._trees / tree if tree else self.folder)

    def close(self) -> None:
        """Let go of everything."""
        for tree in list(self._held):
            self._release(tree)

    @property
    def _trees(self) -> Path:
        return self.folder / "trees"

    def _index(self, key: str) -> Path:
        return self.folder / "index" / f"{key}.json"

    def _entry(self, path: Path) -> Entry | None:
        try:
            read = json.loads(path.read_text(encoding="utf-8"))
            return Entry(**{**read, "commands": tuple(read["commands"])})
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def _hold(self, tree: str) -> bool:
        """Keep others from removing a tree. False where it is gone."""
        if tree in self._held:
            return True
        try:
            descriptor = os.open(self._trees / tree / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            return False
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        self._held[tree] = descriptor
        return True

    def _release(self, tree: str) -> None:
        if (descriptor := self._held.pop(tree, None)) is not None:
            os.close(descriptor)

    def _is_free(self, tree: Path) -> bool:
        if tree.name in self._held:
            return False
        try:
            descriptor = os.open(tree / "lock", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(descriptor)
        return True

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other emulator, and no other thread, changes what is there meanwhile."""
        for name in ("index", "trees"):
            private(self.folder / name)
        descriptor = os.open(self.folder / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _bytes_below(folder: Path) -> int:
    seen: set[tuple[int, int]] = set()
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                found = os.lstat(os.path.join(parent, name))  # noqa: PTH118 - there are ten thousands of them
                if (found.st_dev, found.st_ino) not in seen:
                    seen.add((found.st_dev, found.st_ino))
                    total += found.st_blocks * 512
    return total
