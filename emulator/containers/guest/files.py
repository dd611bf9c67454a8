"""What the client's `sandbox.filesystem` runs in a container: one command in JSON, an answer or an error in JSON.

On Modal it is a program at `TOOL`, which every Sandbox has. Here a command of that name is this module, run by a fork
of the container's init: in the container's own files, and sooner than an interpreter would start.
"""

from __future__ import annotations

import errno
import grp
import json
import os
import pwd
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emulator.containers.guest import watching

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

TOOL = "/__modal/.bin/modal-sandbox-fs-tools"

_CHUNK = 1 << 20
_KINDS = {
    errno.ENOENT: "NotFound",
    errno.EISDIR: "IsDirectory",
    errno.ENOTDIR: "NotDirectory",
    errno.EEXIST: "PathAlreadyExists",
    errno.ENOTEMPTY: "DirectoryNotEmpty",
    errno.EACCES: "PermissionDenied",
    errno.EPERM: "PermissionDenied",
    errno.EROFS: "PermissionDenied",
    errno.ENOSYS: "NotSupported",
    errno.ENOTSUP: "NotSupported",
}
"""The client's names for what can go wrong."""


def main(words: Sequence[str]) -> int:
    """Do what `words` ask, on this process's streams: an exit status."""
    name = ""
    try:
        ((name, given),) = json.loads(words[0]).items()
        _OPERATIONS[name](given)
    except OSError as error:
        kind = _KINDS.get(error.errno or 0, "Other")
        if (name, kind) == ("WriteFile", "PathAlreadyExists"):  # a file where a folder is to be
            kind = "AlreadyExists"
        _say_error(kind, os.strerror(error.errno or 0), str(error))
        return 1
    except (KeyError, ValueError, IndexError) as error:
        _say_error("Other", f"not a command of the file tools: {error!r}")
        return 2
    return 0


def _say_error(kind: str, message: str, detail: str = "") -> None:
    os.write(2, json.dumps({"error_kind": kind, "message": message, "detail": detail}).encode())


def _answer(value: Any) -> None:
    _write_all(json.dumps(value).encode())


def _write_all(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]


def _read(given: dict[str, Any]) -> None:
    with Path(given["path"]).open("rb") as file:
        while data := file.read(_CHUNK):
            _write_all(data)


def _write(given: dict[str, Any]) -> None:
    """All of stdin, also where the file can not be written: who still sends would fail at that, and not be told why."""
    path = Path(given["path"])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            while data := os.read(0, _CHUNK):
                file.write(data)
    finally:
        while os.read(0, _CHUNK):
            pass


def _list(given: dict[str, Any]) -> None:
    _answer([_described(Path(entry.path)) for entry in sorted(os.scandir(given["path"]), key=lambda entry: entry.name)])


def _stat(given: dict[str, Any]) -> None:
    _answer(_described(Path(given["path"])))


def _make_directory(given: dict[str, Any]) -> None:
    parents = bool(given["parents"])
    Path(given["path"]).mkdir(parents=parents, exist_ok=parents)


def _remove(given: dict[str, Any]) -> None:
    path = Path(given["path"])
    if path.is_symlink() or not path.is_dir():
        path.unlink()
    elif given["recursive"]:
        shutil.rmtree(path)
    else:
        path.rmdir()


def _watch(given: dict[str, Any]) -> None:
    wanted = given["filter"]
    for kind, paths in watching.changes(given["path"], recursive=given["recursive"], seconds=given["timeout_secs"]):
        if wanted is None or kind in wanted:
            _write_all(json.dumps({"event_type": kind, "paths": paths}).encode() + b"\n")


def _described(path: Path) -> dict[str, Any]:
    info = path.lstat()
    link = stat.S_ISLNK(info.st_mode)
    return {
        "name": path.name,
        "path": str(path),
        "type": "symlink" if link else "directory" if stat.S_ISDIR(info.st_mode) else "file",
        "size": info.st_size,
        "mode": stat.S_IMODE(info.st_mode),
        "permissions": stat.filemode(info.st_mode),
        "owner": _named(lambda: pwd.getpwuid(info.st_uid).pw_name, info.st_uid),
        "group": _named(lambda: grp.getgrgid(info.st_gid).gr_name, info.st_gid),
        "modified_time": info.st_mtime,
        "symlink_target": os.readlink(path) if link else None,  # noqa: PTH115 - as text: no path is normalised
    }


def _named(find: Callable[[], str], number: int) -> str:
    try:
        return find()
    except KeyError:
        return str(number)


_OPERATIONS: dict[str, Callable[[dict[str, Any]], None]] = {
    "ReadFile": _read,
    "WriteFile": _write,
    "ListFiles": _list,
    "Stat": _stat,
    "MakeDirectory": _make_directory,
    "Remove": _remove,
    "Watch": _watch,
}
