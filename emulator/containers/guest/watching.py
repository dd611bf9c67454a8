"""Changes of files as they happen, by the kernel's inotify. Linux only: elsewhere that is said to be not supported."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import signal
import struct
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_ACCESS, _MODIFY, _ATTRIBUTES, _CLOSED_WRITTEN = 0x1, 0x2, 0x4, 0x8
_MOVED_FROM, _MOVED_TO, _CREATE, _DELETE, _DELETE_SELF, _MOVE_SELF = 0x40, 0x80, 0x100, 0x200, 0x400, 0x800
_IS_FOLDER = 0x40000000
_ALL = (
    _ACCESS | _MODIFY | _ATTRIBUTES | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _DELETE_SELF | _MOVE_SELF
)  # fmt: skip
_REST_OF_A_MOVE = 0.05
"""Seconds in which the second half of a move follows the first."""
_HEADER = struct.Struct("iIII")

Change = tuple[str, list[str]]
"""(what happened, in the client's words; the paths that it concerns)."""


def changes(path: str, *, recursive: bool, seconds: float | None) -> Iterator[Change]:
    """Changes of a file, or of what a folder holds, until stdin ends or `seconds` are over.

    Raises `OSError`: for a path that is not there, and (ENOTSUP) where nothing can be watched.
    """
    if sys.platform != "linux":
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
    os.stat(path)  # noqa: PTH116 - for its error
    watch = _Watch(recursive=recursive)
    watch.add(os.path.realpath(path))
    if seconds is not None:
        signal.signal(signal.SIGALRM, _over)
        signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))
    with contextlib.suppress(TimeoutError):
        while True:
            ready, _, _ = select.select([0, watch.descriptor], [], [], _REST_OF_A_MOVE if watch.moved else None)
            if watch.descriptor in ready:
                yield from watch.read()
            elif watch.moved:
                yield from watch.moved_away()
            if 0 in ready and not os.read(0, 4096):
                return


def _over(_signal: int, _frame: object) -> None:
    raise TimeoutError


class _Watch:
    def __init__(self, *, recursive: bool) -> None:
        self._recursive = recursive
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.descriptor = self._libc.inotify_init1(os.O_CLOEXEC)
        self._paths: dict[int, str] = {}
        self.moved: dict[int, str] = {}
        """What has been moved from, until it is known where to."""

    def add(self, path: str) -> None:
        number = self._libc.inotify_add_watch(self.descriptor, os.fsencode(path), _ALL)
        if number < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), path)
        self._paths[number] = path
        if self._recursive and os.path.isdir(path):  # noqa: PTH112 - paths are text here
            for entry in os.scandir(path):
                if entry.is_dir(follow_symlinks=False):
                    self.add(entry.path)

    def read(self) -> Iterator[Change]:
        data, offset = os.read(self.descriptor, 1 << 16), 0
        while offset < len(data):
            number, mask, cookie, length = _HEADER.unpack_from(data, offset)
            offset += _HEADER.size
            name = os.fsdecode(data[offset : offset + length].rstrip(b"\0"))
            offset += length
            path = os.path.join(self._paths[number], name) if name else self._paths.get(number, "")  # noqa: PTH118
            if mask & _MOVED_FROM:
                self.moved[cookie] = path
                continue
            if mask & (_CREATE | _MOVED_TO) and mask & _IS_FOLDER and self._recursive:
                self.add(path)
            if mask & _MOVED_TO:
                source = self.moved.pop(cookie, None)
                yield ("Rename", [source, path]) if source else ("RenameTo", [path])
            elif kind := _kind(mask):
                yield kind, [path]

    def moved_away(self) -> Iterator[Change]:
        """What went to where nobody watches."""
        moved, self.moved = self.moved, {}
        for path in moved.values():
            yield "RenameFrom", [path]


def _kind(mask: int) -> str:
    if mask & _CREATE:
        return "Create"
    if mask & (_DELETE | _DELETE_SELF):
        return "Remove"
    if mask & (_MODIFY | _ATTRIBUTES | _MOVE_SELF):
        return "Modify"
    return "Access" if mask & _ACCESS and not mask & _IS_FOLDER else ""
