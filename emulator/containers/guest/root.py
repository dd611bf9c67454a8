"""Giving a container a `/` of its own, put together from folders of the machine."""

# Every container pays for each call here: paths are text.
# ruff: noqa: PTH103, PTH112, PTH114, PTH115, PTH120, PTH211

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from emulator.containers.guest import linux

if TYPE_CHECKING:
    from collections.abc import Sequence

    from emulator.containers.guest.views import Views


def enter(
    folder: str, binds: Sequence[Sequence[object]], overlays: Sequence[Sequence[str]], views: Views | None = None
) -> None:
    """Make `folder` this process's `/`, with `binds` (host path, path, writable) and `overlays` in it.

    An overlay (host path, path, upper, work) shows a folder of the machine with the files of `upper` on top; what the
    container writes there stays in `upper`. `views` are Volumes. `/proc`, `/dev` and `/dev/shm` are made as every
    program expects them. Needs a mount namespace of one's own, and must be in the process namespace that `/proc` is to
    show.
    """
    linux.mount("none", "/", None, linux.MS_REC | linux.MS_PRIVATE)
    linux.mount(folder, folder, None, linux.MS_BIND | linux.MS_REC)
    for source, path, upper, work in overlays:
        target = _mount_point(folder, path, directory=True)
        linux.mount("overlay", target, "overlay", 0, f"lowerdir={source},upperdir={upper},workdir={work}")
    for bind in binds:
        source, path, writable = str(bind[0]), str(bind[1]), bool(bind[2])
        _bind(folder, source, path, writable=writable)
    if views is not None:
        views.begin(folder)
    _bind(folder, "/dev", "/dev", writable=True)
    shared_memory = f"{folder}/dev/shm"  # noqa: S108
    if os.path.isdir(shared_memory):
        linux.mount("tmpfs", shared_memory, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=1777")
    linux.mount(
        "proc",
        _mount_point(folder, "/proc", directory=True),
        "proc",
        linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC,
    )
    linux.change_root(folder)


def _bind(folder: str, source: str, path: str, *, writable: bool) -> None:
    if not writable and os.path.islink(source):
        os.makedirs(os.path.dirname(folder + path), exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.symlink(os.readlink(source), folder + path)
        return
    target = _mount_point(folder, path, directory=os.path.isdir(source))
    linux.mount(source, target, None, linux.MS_BIND | linux.MS_REC)
    if not writable:
        linux.make_read_only(target)


def _mount_point(folder: str, path: str, *, directory: bool) -> str:
    target = folder + path
    os.makedirs(target if directory else os.path.dirname(target), exist_ok=True)
    if not directory:
        os.close(os.open(target, os.O_CREAT | os.O_RDONLY | os.O_CLOEXEC, 0o644))
    return target
