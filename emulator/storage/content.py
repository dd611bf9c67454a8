"""Files by what is in them (mounts) and blobs by id (large inputs and outputs), as plain files under one folder."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from emulator.ids import new_id
from emulator.storage.private import private

if TYPE_CHECKING:
    from pathlib import Path

_SHA256 = re.compile(r"[0-9a-f]{64}")
_BLOB_ID = re.compile(r"bl-[0-9A-Za-z]+")


class ContentStore:
    """Content-addressed files: `add` is idempotent, and a name is always a lower-case SHA-256."""

    def __init__(self, folder: Path) -> None:
        self._folder = private(folder)

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
            partial = target.with_suffix(f".{new_id('tmp')}")
            partial.write_bytes(data)
            partial.replace(target)

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
    """Opaque bytes by id, written once."""

    def __init__(self, folder: Path) -> None:
        self._folder = private(folder)

    def new(self) -> str:
        return new_id("bl")

    def path(self, blob_id: str) -> Path:
        """Where that blob is, or would be. Raises `ValueError` for what is no blob id."""
        if not _BLOB_ID.fullmatch(blob_id):
            raise ValueError(f"not a blob id: {blob_id!r}")
        return self._folder / blob_id

    def read(self, blob_id: str) -> bytes:
        """Raises `FileNotFoundError` when it was never uploaded."""
        return self.path(blob_id).read_bytes()

    def discard(self, blob_id: str) -> None:
        """Remove a blob. Harmless when it is not there."""
        self.path(blob_id).unlink(missing_ok=True)
