"""Giving a container a `/` of its own, put together from folders of the machine."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from emulator.containers.guest import linux

if TYPE_CHECKING:
    from collections.abc import Sequence


def enter(folder: str, binds: Sequence[Sequence[object]], overlays: Sequence[Sequence[str]]) -> None:
    """Make `folder` this process's `/`, with `binds` (host path, path, writable) and `overlays` in it.

    An overlay (host path, path, upper, work) shows a folder of the machine with the files of `upper` on top; what the
    container writes there stays in `upper`. `/proc`, `/dev` and `/dev/shm` are made as every program expects them.
    Needs a mount namespace of one's own, and must be in the process namespace that `/proc` is to show.
    """
    linux.mount("none", "/", None, linux.MS_REC | linux.MS_PRIVATE)
    linux.mount(folder, folder, None, linux.MS_BIND | linux.MS_REC)
    for source, path, upper, work in overlays:
        target = _mount_point(folder, path, directory=True)
        linux.mount("overlay", target, "overlay", 0, f"lowerdir={source},upperdir={upper},workdir={work}")
    for bind in binds:
        source, path, writable = str(bind[0]), str(bind[1]), bool(bind[2])
        _bind(folder, source, path, writable=writable)
    _bind(folder, "/dev", "/dev", writable=True)
    shared_memory = f"{folder}/dev/shm"  # noqa: S108
    if Path(shared_memory).is_dir():
        linux.mount("tmpfs", shared_memory, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=1777")
    linux.mount(
        "proc",
        _mount_point(folder, "/proc", directory=True),
        "proc",
        linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC,
    )
    linux.change_root(folder)


def _bind(folder: str, source: str, path: str, *, writable: bool) -> None:
    if Path(source).is_symlink() and not writable:
        link = Path(folder + path)
        link.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            link.symlink_to(Path(source).readlink())
        return
    target = _mount_point(folder, path, directory=Path(source).is_dir())
    linux.mount(source, target, None, linux.MS_BIND | linux.MS_REC)
    if not writable:
        linux.make_read_only(target)


def _mount_point(folder: str, path: str, *, directory: bool) -> str:
    target = Path(folder + path)
    if directory:
        target.mkdir(parents=True, exist_ok=True)
    elif not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    return str(target)
