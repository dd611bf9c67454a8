"""Who uses a state directory: one at a time, an emulator or a command that replaces what is in it."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from emulator.storage.private import private
from emulator.storage.store import StateError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOCK = "lock"
UNFINISHED = "unfinished"
"""Says which command was about to replace everything, and has not done so yet."""


class InUseError(StateError):
    """Another emulator uses the directory."""


class Claim:
    """A state directory as one process's own, until `release` or the end of the process.

    Raises `InUseError` when it is another's, `StateError` after an import or a reset that did not come to its end (but
    for those who are `to_replace` everything), and `OSError` when it can not be made or written.
    """

    def __init__(self, folder: Path, *, to_replace: bool = False) -> None:
        private(folder)
        self._lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._take(folder)
            if not to_replace:
                _check_whole(folder)
        except BaseException:
            os.close(self._lock)
            raise

    def _take(self, folder: Path) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            pid = os.pread(self._lock, 20, 0).decode(errors="replace").strip() or "unknown"
            raise InUseError(
                f"process {pid} uses the state in {folder}: stop it, or use another directory (--state)"
            ) from error
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Harmless when repeated."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Claim:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def _check_whole(folder: Path) -> None:
    with suppress(FileNotFoundError):
        what = (folder / UNFINISHED).read_text(encoding="utf-8").strip() or "a command"
        raise StateError(f"{what} did not come to its end in {folder}: do it again, or `emulator state reset`")


@contextmanager
def unfinished(folder: Path, what: str) -> Iterator[None]:
    """While inside, or if it is never left, nobody takes what is in the folder for whole."""
    mark = folder / UNFINISHED
    mark.write_text(f"{what}\n", encoding="utf-8")
    yield
    mark.unlink()
