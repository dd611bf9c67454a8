"""Volumes where containers have no root of their own: links at their mount paths, where nothing is in the way."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from emulator.containers.base import ContainerStartError

if TYPE_CHECKING:
    from pathlib import Path


class VolumeLinks:
    """Links from mount paths of this machine to volumes, made when first needed and removed at the end."""

    def __init__(self) -> None:
        self._made: dict[Path, Path] = {}

    def need(self, mount_path: Path, volume: Path) -> None:
        """Have `mount_path` lead to `volume`. Raises `ContainerStartError` where that is not to be had."""
        if mount_path.is_symlink() and mount_path.resolve() == volume.resolve():
            return
        try:
            mount_path.symlink_to(volume)
        except OSError as error:
            raise ContainerStartError(
                f"the volume cannot be shown at {mount_path}: containers on this machine have no file system of their "
                f"own, and a link there cannot be made ({os.strerror(error.errno or 0)}). Mount it at a path that does "
                f"not exist yet, in a folder that you may write to"
            ) from error
        self._made[mount_path] = volume

    def close(self) -> None:
        for path, volume in self._made.items():
            if path.is_symlink() and path.readlink() == volume:
                path.unlink()
        self._made.clear()
