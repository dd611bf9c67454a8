"""What is in S3's objects: a file each, which is read when somebody asks for it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from emulator.ids import new_id
from emulator.storage.private import private

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path


@dataclass(eq=False)
class FileContent:
    """Stands where moto has a temporary file with an object's content, or is a part of one."""

    path: Path
    size: int
    offset: int = 0
    _position: int = 0

    def seek(self, position: int) -> None:
        self._position = position

    def read(self, size: int = -1) -> bytes:
        """Raises `OSError`, by the file's name, where it is gone or has been cut off."""
        left = self.size - self._position
        wanted = left if size < 0 else min(size, left)
        with self.path.open("rb") as file:
            file.seek(self.offset + self._position)
            data = file.read(wanted)
        if len(data) < wanted:
            raise OSError(f"{self.path} has been cut off: {len(data)} bytes of {wanted}")
        self._position += len(data)
        return data

    def part(self, offset: int, size: int) -> FileContent:
        return FileContent(self.path, size, self.offset + offset)

    def close(self) -> None:
        """The file outlives the object in memory: it goes once the record of it is gone."""


class ObjectFiles:
    """A folder of such files, whose names are in the records of what they belong to."""

    def __init__(self, folder: Path) -> None:
        self._folder = private(folder)
        self._obsolete: set[str] = set()

    def content(self, name: str, size: int) -> FileContent:
        """Raises `ValueError` for what is no name of a file in this folder."""
        if "/" in name or name in ("", ".", ".."):
            raise ValueError(f"not a content's name: {name!r}")
        return FileContent(self._folder / name, size)

    def add(self, source: IO[bytes], size: int) -> FileContent:
        """A new file with all that is in `source`. Raises `OSError`, and leaves nothing behind then."""
        path = self._folder / new_id("ob")
        source.seek(0)
        try:
            with path.open("xb") as file:
                shutil.copyfileobj(source, file, 1 << 20)
        except OSError:
            path.unlink(missing_ok=True)
            raise
        return FileContent(path, size)

    def damage(self, content: FileContent) -> str:
        """What is wrong with it, or nothing."""
        try:
            found = content.path.stat().st_size
        except OSError as error:
            return f"{content.path}: {error.strerror}"
        return "" if found == content.size else f"{content.path} has {found} bytes, not {content.size}"

    def drop(self, names: Collection[str]) -> None:
        """Nobody will need these, once what is being written is kept."""
        self._obsolete.update(names)

    def collect(self) -> None:
        """What was dropped has no record any more."""
        for name in self._obsolete:
            (self._folder / name).unlink(missing_ok=True)
        self._obsolete.clear()

    def sweep(self, used: Collection[str]) -> None:
        """Remove every other file: of what was being written when an emulator was killed."""
        for path in self._folder.iterdir():
            if path.name not in used:
                path.unlink()
