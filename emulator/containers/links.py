"""Volumes where containers have no root of their own: links at their mount paths, where nothing is in the way."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from emulator.containers.base import ContainerStartError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class VolumeLinks:
    """Links from mount paths of this machine to volumes, made when first needed. `make` removes them at the end."""

    def __init__(self, make: Callable[[Path, Path], None]) -> None:
        self._make = make

    def need(self, mount_path: Path, volume: Path) -> None:
        """Have `mount_path` lead to `volume`. Raises `ContainerStartError` where that is not to be had."""
        if mount_path.is_symlink() and mount_path.resolve() == volume.resolve():
            return
        try:
            self._make(mount_path, volume)
        except OSError as error:
            raise ContainerStartError(
                f"the volume cannot be shown at {mount_path}: containers on this machine have no file system of their "
                f"own, and a link there cannot be made ({os.strerror(error.errno or 0)}). Mount it at a path that does "
                f"not exist yet, in a folder that you may write to"
            ) from error
