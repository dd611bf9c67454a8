"""What a build step has changed in its container's files, as files of the image. Blocks."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from emulator.containers.launch import Launch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from emulator.storage.content import ContentStore

_NOT_THE_IMAGES = ("/tmp", "/var/tmp", "/run", "/proc", "/dev", "/sys", "/__modal")  # noqa: S108 - of a container


def take_changes(folder: Path, content: ContentStore, *, placed: Mapping[str, str]) -> tuple[tuple[str, str, int], ...]:
    """(path in the container, sha256, mode) of each file that was written there, taken over into `content`.

    `folder` is what a container's `changes` are left in, and `placed` the files that it was given, by path. Links
    become what they lead to; folders without files, and what was removed, are not seen.
    """
    shown = [path for _, path, _ in Launch.read(folder / "launch.json").binds]
    found: dict[Path, tuple[str, str, int]] = {}
    links: list[tuple[str, Path]] = []
    for path, file in _files(folder):
        if any(path == one or path.startswith(f"{one}/") for one in (*_NOT_THE_IMAGES, *shown)):
            continue
        status = file.lstat()
        if stat.S_ISLNK(status.st_mode):
            links.append((path, file))
        elif stat.S_ISREG(status.st_mode):
            found[file] = (path, content.take(file), stat.S_IMODE(status.st_mode))
    for path, link in links:
        if (target := found.get(_target(link, folder))) is not None:
            found[link] = (path, *target[1:])
    return tuple(one for one in found.values() if placed.get(one[0]) != one[1])


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """(path in the container, where it is) of files and links."""
    roots = [("", folder / "root"), *((f"/{upper.parent.name}", upper) for upper in folder.glob("over/*/upper"))]
    for prefix, root in roots:
        for parent, folders, names in os.walk(root):
            if "__pycache__" in folders:
                folders.remove("__pycache__")
            linked = [name for name in folders if Path(parent, name).is_symlink()]
            for name in [*names, *linked]:
                file = Path(parent, name)
                yield f"{prefix}/{file.relative_to(root)}", file


def _target(link: Path, folder: Path) -> Path:
    to = link.readlink()
    return Path(os.path.normpath(folder / "root" / str(to).lstrip("/") if to.is_absolute() else link.parent / to))
