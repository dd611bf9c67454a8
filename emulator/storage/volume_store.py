"""The files of all Volumes, and what is on its way into them and out of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emulator.storage.transfers import Transfers
from emulator.storage.volumes import VolumeFiles

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class VolumeStore:
    """`scratch`: a folder of the same file system, which goes with the emulator. `now` counts seconds."""

    def __init__(self, scratch: Path, now: Callable[[], float]) -> None:
        self.scratch = scratch / "volumes"
        self.transfers = Transfers(scratch / "transfers", now)
        self._files: dict[str, VolumeFiles] = {}

    def of(self, volume_id: str, root: Path) -> VolumeFiles:
        """A Volume's files. Raises `OSError` where its folder is not there and can not be made."""
        if volume_id not in self._files:
            self.scratch.mkdir(parents=True, exist_ok=True)
            self._files[volume_id] = VolumeFiles(root, self.scratch)
        return self._files[volume_id]

    def delete(self, volume_id: str, root: Path) -> None:
        """Remove a Volume's files. Blocks."""
        self.of(volume_id, root).delete()
        del self._files[volume_id]
