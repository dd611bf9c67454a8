"""Volumes in a container: overlays that can be taken away, and shown anew with other folders of the machine below.

What the machine's folders are is known in a mount namespace that is kept for that: it looks as the machine does, where
the container's own has none of it. Mounts are made there, and moved over.
"""

# Every container with Volumes pays for each call here: paths are text.
# ruff: noqa: PTH103

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from emulator.containers.guest import linux

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    View = Mapping[str, Any]
    """One of `Launch.views`."""

OPTIONS = {"root": "redirect_dir=on,metacopy=off", "user": "userxattr"}
"""By how namespaces are made: a whole directory can be renamed only by root; a file's data is never left below."""
_NAMESPACE = "/proc/self/ns/mnt"


class Views:
    """Those of one container. Made before it gets a file system of its own, in a process without threads."""

    def __init__(self, views: Sequence[View], how: str) -> None:
        self._views = views
        self._options = OPTIONS[how]
        self.shared = ""
        """Why Volumes are shown as they are, if so."""
        linux.unshare(linux.CLONE_NEWNS)
        linux.mount("none", "/", None, linux.MS_REC | linux.MS_SLAVE)
        self._outside = _namespace()
        self._inside = -1

    def begin(self, root: str) -> None:
        """Show all of them below the folder that is to be the container's root."""
        for view in self._views:
            target = root + view["path"]
            os.makedirs(target, exist_ok=True)
            try:
                self._mount(view, target)
            except OSError as error:
                self.shared = str(error)
                linux.mount(view["direct"], target, None, linux.MS_BIND | linux.MS_REC)
                if view["read_only"]:
                    linux.make_read_only(target)

    def entered(self) -> None:
        """The container's root is this process's now."""
        self._inside = _namespace()

    def hide(self, path: str) -> None:
        """Take one away. Raises `OSError` (EBUSY) when somebody in the container has something of it open."""
        linux.unmount(path)

    def show(self, view: View) -> None:
        """Show one again. `at` is an empty folder of the machine."""
        linux.setns(self._outside, linux.CLONE_NEWNS)
        try:
            self._mount(view, view["at"])
            try:
                tree = linux.clone_mount(view["at"])
            finally:
                linux.unmount(view["at"], linux.MNT_DETACH)
        finally:
            linux.setns(self._inside, linux.CLONE_NEWNS)
        try:
            linux.move_mount(tree, view["path"])
        finally:
            os.close(tree)

    def _mount(self, view: View, target: str) -> None:
        layers = f"lowerdir={view['lower']},upperdir={view['upper']},workdir={view['work']}"
        linux.mount("overlay", target, "overlay", 0, f"{layers},{self._options}")
        if view["read_only"]:
            linux.make_read_only(target)

    def close(self) -> None:
        """Of the container's main process, which is not to have it."""
        os.close(self._outside)
        os.close(self._inside)


def _namespace() -> int:
    return os.open(_NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)
