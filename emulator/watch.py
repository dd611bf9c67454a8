"""Changes to an app's source files."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING

from watchfiles import Change, awatch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

SUFFIXES = (".py", ".toml")
NOT_SOURCE = ("__pycache__", "node_modules", "tests")

DEBOUNCE_MS = 200
"""Changes that come within this long of each other are one."""

MAX_DIRECTORIES = 2000
"""Folders that are watched: each takes one of the system's watches, of which a user has some thousands."""


def source_directory(app_ref: str, cwd: Path) -> Path:
    """The folder that holds an app's source: the file's own, or for a module's name the one it is found from."""
    target = app_ref.partition("::")[0]
    return (cwd / target).resolve().parent if is_file(app_ref) else cwd.resolve()


def is_file(app_ref: str) -> bool:
    """Whether an app is named by a file rather than by a module."""
    target = app_ref.partition("::")[0]
    return target.endswith(".py") or "/" in target


def directories(root: Path) -> Iterator[Path]:
    """A folder and those below it that may hold source: no hidden ones, caches, virtual environments or tests."""
    yield root
    for parent, names, _ in os.walk(root):
        names[:] = sorted(name for name in names if _holds_source(Path(parent) / name))
        for name in names:
            yield Path(parent) / name


def watched(root: Path, say: Callable[[str], None]) -> list[Path]:
    """The folders to watch. Says so when there are more than can be."""
    found = list(itertools.islice(directories(root), MAX_DIRECTORIES + 1))
    if len(found) > MAX_DIRECTORIES:
        found.pop()
        say(f"{root} has more than {MAX_DIRECTORIES} folders: changes beyond {found[-1]} are not seen")
    return found


async def changes(root: Path, say: Callable[[str], None]) -> AsyncIterator[list[Path]]:
    """The source files below `root` that have changed, each time that some have. `say` is told what is not seen."""

    def wanted(_: Change, path: str) -> bool:
        if Path(path).is_dir():
            return _holds_source(Path(path))
        return path.endswith(SUFFIXES) and not Path(path).name.startswith(".")  # hidden ones are editors' own

    while True:
        async for batch in awatch(*watched(root, say), watch_filter=wanted, debounce=DEBOUNCE_MS, recursive=False):
            paths = sorted({Path(path) for _, path in batch})
            # A new folder is not watched yet, and may have been filled before we could.
            new = [path for path in paths if path.is_dir()]
            files = [path for path in paths if path.suffix in SUFFIXES and not path.is_dir()]
            files += [file for folder in new for file in folder.rglob("*") if file.suffix in SUFFIXES]
            if files:
                yield files
            if new:
                break
        else:
            return


def _holds_source(folder: Path) -> bool:
    name = folder.name
    if name.startswith(".") or name in NOT_SOURCE or folder.is_symlink():
        return False
    return not (folder / "pyvenv.cfg").exists()
