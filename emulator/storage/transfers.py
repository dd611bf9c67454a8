"""Files on their way into and out of Volumes, block by block, over HTTP (see `protocol.volume_pages`).

A block is 8 MiB of a file, counted from its beginning. Uploads are sparse: of a block, its trailing zeros do not come.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from emulator.ids import new_id
from emulator.storage.volumes import NewFile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from emulator.storage.volumes import VolumeFiles

BLOCK_BYTES = 8 << 20
NOTHING = hashlib.sha256().digest()
"""Of a block that is all zeros: it does not come at all."""
KEPT_SECONDS = 1800.0
"""For which an upload that does not go on, or a download that nobody asks for, is kept."""


@dataclass(frozen=True)
class Announced:
    """A file that is to be uploaded: `blocks` are the SHA-256 of each, without its trailing zeros."""

    path: str
    size: int
    mode: int
    blocks: tuple[bytes, ...]


@dataclass(eq=False)
class Upload:
    """A batch of files. They become a Volume's when all of them are whole."""

    upload_id: str
    folder: Path
    files: tuple[Announced, ...]
    come: set[tuple[int, int]] = field(default_factory=set)
    """Blocks that are here: (file, block)."""
    failure: OSError | None = None
    """Why a block could not be kept. It is told with the next request: for a block's it would be tried for minutes."""
    done: bool = False

    def missing(self) -> list[tuple[int, int]]:
        wanted = (
            (f, b) for f, file in enumerate(self.files) for b, digest in enumerate(file.blocks) if digest != NOTHING
        )
        return [block for block in wanted if block not in self.come]

    def most_bytes(self) -> int:
        """That what is missing can take."""
        return sum(min(BLOCK_BYTES, self.files[f].size - b * BLOCK_BYTES) for f, b in self.missing())

    def path(self, file: int) -> Path:
        return self.folder / str(file)

    def finish(self, volume: VolumeFiles, *, overwrite: bool) -> None:
        """Move the files into the Volume. Raises as `VolumeFiles.put` does."""
        for number, file in enumerate(self.files):
            with self.path(number).open("ab") as whole:
                whole.truncate(file.size)
        volume.put(
            [NewFile(self.path(number), file.path, file.mode) for number, file in enumerate(self.files)],
            overwrite=overwrite,
        )
        self.done = True
        shutil.rmtree(self.folder, ignore_errors=True)


T = TypeVar("T")


class Recent(Generic[T]):
    """Things by id, forgotten when nobody has asked for them in a while."""

    def __init__(self, now: Callable[[], float], forget: Callable[[T], None]) -> None:
        self._now = now
        self._forget = forget
        self._things: OrderedDict[str, tuple[float, T]] = OrderedDict()

    def add(self, key: str, thing: T) -> None:
        while self._things and next(iter(self._things.values()))[0] < self._now() - KEPT_SECONDS:
            self._forget(self._things.popitem(last=False)[1][1])
        self._things[key] = (self._now(), thing)

    def get(self, key: str) -> T | None:
        if key not in self._things:
            return None
        thing = self._things.pop(key)[1]
        self._things[key] = (self._now(), thing)
        return thing


class Transfers:
    """All of them. `scratch` is a folder of the file system in which the Volumes are; `now` counts seconds."""

    def __init__(self, scratch: Path, now: Callable[[], float]) -> None:
        self._scratch = scratch
        self._uploads: Recent[Upload] = Recent(now, lambda upload: shutil.rmtree(upload.folder, ignore_errors=True))
        self._downloads: Recent[Path] = Recent(now, lambda kept: kept.unlink(missing_ok=True))
        self.upload = self._uploads.get
        self.download = self._downloads.get

    def begin(self, files: Sequence[Announced]) -> Upload:
        upload_id = new_id("up")
        upload = Upload(upload_id, self._scratch / upload_id, tuple(files))
        upload.folder.mkdir(parents=True)
        self._uploads.add(upload_id, upload)
        return upload

    def offer(self, file: Path) -> str:
        """Have a file to be downloaded as it is now, whatever takes its place. Returns the id of that."""
        download_id = new_id("dl")
        self._scratch.mkdir(exist_ok=True)
        kept = self._scratch / download_id
        os.link(file, kept)
        self._downloads.add(download_id, kept)
        return download_id
