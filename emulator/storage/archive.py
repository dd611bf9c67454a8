"""A state directory as one file, and back; and its end. Whoever does that has the directory to himself."""

from __future__ import annotations

import io
import json
import os
import sys
import tarfile
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emulator.containers.folder import remove
from emulator.ids import new_id
from emulator.storage.claim import LOCK, UNFINISHED, Claim, unfinished
from emulator.storage.sqlite_store import SqliteStore
from emulator.storage.store import FORMAT, StateError

if TYPE_CHECKING:
    from collections.abc import Iterator

MANIFEST = "manifest.json"
OWN = frozenset({LOCK, UNFINISHED})
PASSING = frozenset({"running.json", "blobs", "images", "cache"})
"""What is of one run of an emulator, or made anew on each machine."""
DATABASES = ("state.sqlite3", "aws.sqlite3")


@dataclass(frozen=True)
class Archived:
    """What an archive holds."""

    entries: int
    """Files, folders and links."""
    size: int
    """Bytes of the files."""


def export(folder: Path, file: Path) -> Archived:
    """Write all that is kept into a tar file (compressed, where it is called `….gz`) that its owner alone can read.

    Raises `StateError` where nothing is kept, an emulator runs, or the file is there; nothing is left of it then.
    """
    if not (folder / DATABASES[0]).exists():
        raise StateError(f"nothing is kept in {folder}")
    if file.resolve().is_relative_to(folder.resolve()):
        raise StateError(f"{file} is in the directory that is to be exported: choose another place")
    with _told(), Claim(folder):
        _check_databases(folder)
        paths = sorted(_kept(folder))
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with open(descriptor, "wb") as raw:  # noqa: PTH123
                return _write(raw, folder, paths, compressed=file.suffix in (".gz", ".tgz"))
        except BaseException:
            file.unlink(missing_ok=True)
            raise


@contextmanager
def _told() -> Iterator[None]:
    """What the file system refuses, by the file's name."""
    try:
        yield
    except OSError as error:
        raise StateError(str(error)) from error


def _kept(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name in OWN | PASSING or path.name.startswith("."):
            continue
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from path.rglob("*")


def _write(raw: Any, folder: Path, paths: list[Path], *, compressed: bool) -> Archived:
    told = {"format": FORMAT, "entries": len(paths), "written by": _versions()}
    text = json.dumps(told, indent=1).encode()
    size = 0
    with tarfile.open(fileobj=raw, mode="w:gz" if compressed else "w") as archive:
        entry = tarfile.TarInfo(MANIFEST)
        entry.size, entry.mode = len(text), 0o600
        archive.addfile(entry, io.BytesIO(text))
        for path in paths:
            archive.add(path, str(path.relative_to(folder)), recursive=False)
            size += path.lstat().st_size if path.is_file() else 0
    return Archived(len(paths), size)


def _versions() -> dict[str, str]:
    found = {"python": sys.version.split()[0]}
    for name in ("modal-emulator", "modal", "moto"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def restore(folder: Path, file: Path, *, replace: bool = False) -> Archived:
    """Put what `export` has written into a state directory, in the place of what is there.

    Raises `StateError` where something is kept and is not to be replaced, where an emulator runs, and for a file that
    is not whole; the directory is as it was then.
    """
    with _told(), Claim(folder, to_replace=True):
        there = [path for path in folder.iterdir() if path.name not in OWN | PASSING]
        if there and not replace:
            raise StateError(f"something is kept in {folder} already: --replace puts the archive in its place")
        fresh = Path(tempfile.mkdtemp(prefix=".import-", dir=folder))
        try:
            found = _extract(file, fresh)
            _check_databases(fresh)
            with unfinished(folder, f"the import of {file}"):
                _empty(folder, but=OWN | PASSING | {fresh.name})
                for path in fresh.iterdir():
                    path.rename(folder / path.name)
        finally:
            remove(fresh)
        return found


def _extract(file: Path, target: Path) -> Archived:
    try:
        with tarfile.open(file) as archive:
            told = _manifest(file, archive)
            entries = size = 0
            while (member := archive.next()) is not None:
                archive.extract(member, target, filter=_admitted)
                entries, size = entries + 1, size + member.size
    except (tarfile.TarError, EOFError) as error:
        raise StateError(f"{file} is damaged, or not written by `emulator state export`: {error}") from error
    if entries != told:
        raise StateError(f"{file} is not whole: {entries} entries of {told}")
    return Archived(entries, size)


def _manifest(file: Path, archive: tarfile.TarFile) -> int:
    """How many entries follow. Raises `StateError` for what is no archive of this format."""
    first = archive.next()
    content = archive.extractfile(first) if first is not None and first.name == MANIFEST else None
    if content is None:
        raise StateError(f"{file} was not written by `emulator state export`")
    try:
        told = json.loads(content.read())
        form, entries = int(told["format"]), int(told["entries"])
    except (ValueError, KeyError, TypeError) as error:
        raise StateError(f"{file} is damaged: its manifest can not be read") from error
    if form != FORMAT:
        age = "a newer" if form > FORMAT else "an older"
        raise StateError(f"{file} was written by {age} emulator (format {form}, not {FORMAT})")
    return entries


def _admitted(member: tarfile.TarInfo, target: str) -> tarfile.TarInfo | None:
    """Nothing that leads out of the folder, no devices, and all of it of whoever imports."""
    if member.isdev():
        raise tarfile.SpecialFileError(member)
    return tarfile.tar_filter(member, target).replace(uid=os.getuid(), gid=os.getgid(), uname="", gname="", deep=False)


def _check_databases(folder: Path) -> None:
    """Raises `StateError` for one that is damaged or of another format."""
    for name in DATABASES:
        if (folder / name).exists():
            SqliteStore(folder / name).close()


def reset(folder: Path) -> None:
    """Forget all that is kept, and what was made for it. Raises `StateError` where an emulator runs."""
    if not folder.is_dir():
        raise StateError(f"nothing is kept in {folder}")
    with _told(), Claim(folder, to_replace=True), unfinished(folder, "a reset"):
        _empty(folder, but=OWN)


def _empty(folder: Path, *, but: frozenset[str]) -> None:
    for path in folder.iterdir():
        if path.name in but:
            continue
        if path.is_dir() and not path.is_symlink():
            gone = path.rename(folder / f".{new_id('gone')}")  # its name is free at once
            remove(gone)
        else:
            path.unlink()
