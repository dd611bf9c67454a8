"""Files by what is in them (mounts) and blobs by id (large inputs and outputs), as plain files under one folder."""

from __future__ import annotations

import hashlib
import re
import shutil
from typing import TYPE_CHECKING

from emulator.containers.folder import RunFolder
from emulator.ids import new_id
from emulator.storage.private import private

if TYPE_CHECKING:
    from pathlib import Path

_SHA256 = re.compile(r"[0-9a-f]{64}")


class ContentStore:
    """Content-addressed files: `add` is idempotent, and a name is always a lower-case SHA-256.

    `scratch`: a folder of the same file system for what is not whole yet, which others clean up after a kill.
    """

    def __init__(self, folder: Path, scratch: Path | None = None) -> None:
        self._folder = private(folder)
        self._scratch = scratch or self._folder

    def path(self, sha256: str) -> Path:
        """Where that content is, or would be. Raises `ValueError` for anything but a SHA-256."""
        if not _SHA256.fullmatch(sha256):
            raise ValueError(f"not a SHA-256 in hexadecimal: {sha256!r}")
        return self._folder / sha256

    def has(self, sha256: str) -> bool:
        return self.path(sha256).exists()

    def add(self, sha256: str, data: bytes) -> None:
        """Store content. Raises `ValueError` when it is not what its name says."""
        target = self.path(sha256)
        _check(hashlib.sha256(data).hexdigest(), sha256)
        if not target.exists():
            partial = self._scratch / new_id("tmp")
            try:
                partial.write_bytes(data)
                partial.replace(target)
            finally:
                partial.unlink(missing_ok=True)

    def take(self, file: Path) -> str:
        """Take a file of any file system over, whatever it is: its SHA-256. It is gone from where it was then."""
        with file.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, hashlib.sha256).hexdigest()
        if not self.has(sha256):
            partial = self._scratch / new_id("tmp")
            try:
                shutil.move(file, partial)
                partial.chmod(0o600)
                partial.replace(self.path(sha256))
            finally:
                partial.unlink(missing_ok=True)
        return sha256

    def adopt(self, sha256: str, file: Path) -> None:
        """Take a file of the same file system over as content. Raises `ValueError` when it is not what its name says.

        It is gone from where it was then. Raises `FileNotFoundError` when it was not there.
        """
        target = self.path(sha256)
        with file.open("rb") as stream:
            _check(hashlib.file_digest(stream, hashlib.sha256).hexdigest(), sha256)
        file.replace(target)


def _check(found: str, sha256: str) -> None:
    if found != sha256:
        raise ValueError(f"the content's SHA-256 is {found}, not {sha256}")


class BlobStore:
    """Opaque bytes by id, for as long as their emulator runs. What a killed one left behind is swept by the next."""

    def __init__(self, folder: Path) -> None:
        self._run = RunFolder(private(folder))
        self._issued: set[str] = set()

    @property
    def scratch(self) -> Path:
        """A folder that goes with this emulator, or is swept by the next."""
        return self._run.path

    def new(self) -> str:
        """An id under which a blob may be uploaded."""
        blob_id = new_id("bl")
        self._issued.add(blob_id)
        return blob_id

    def path(self, blob_id: str) -> Path:
        """Where that blob is, or would be. Raises `ValueError` for what is no blob's id, or is one no more."""
        if blob_id not in self._issued:
            raise ValueError(f"not a blob id: {blob_id!r}")
        return self._run.path / blob_id

    def has(self, blob_id: str) -> bool:
        """Whether it was uploaded."""
        return blob_id in self._issued and self.path(blob_id).exists()

    def size(self, blob_id: str) -> int:
        """Its bytes; 0 for what was not uploaded, or is no blob's id."""
        try:
            return self.path(blob_id).stat().st_size
        except (ValueError, FileNotFoundError):
            return 0

    def read(self, blob_id: str) -> bytes:
        """Raises `FileNotFoundError` when it was never uploaded, `ValueError` for what is no blob's id."""
        return self.path(blob_id).read_bytes()

    def discard(self, blob_id: str) -> None:
        """Remove a blob, uploaded or not, and its id. Harmless when it is not there."""
        if blob_id in self._issued:
            self.path(blob_id).unlink(missing_ok=True)
            self._issued.remove(blob_id)

    def close(self) -> None:
        """Remove all of them. Harmless when repeated."""
        self._run.close()
