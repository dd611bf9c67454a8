"""The `Store` in one SQLite file. Imported only where something is kept."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from emulator.storage.store import FORMAT, NotKeptError, StateError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

APPLICATION = 0x4D454D55
"""Written into the file's header, by which it is known to be an emulator's."""

_SCHEMA = "CREATE TABLE record (kind TEXT, key TEXT, value BLOB NOT NULL, PRIMARY KEY (kind, key)) WITHOUT ROWID"
_PUT = "INSERT INTO record VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value"


class SqliteStore:
    """Records that survive the death of the process from the moment `commit` returns (WAL, without waiting for the
    disk: a machine that loses its power may lose the last commits, never a part of one).

    Raises `StateError` for a file that is damaged, of a newer emulator, or none of an emulator's.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._pending: dict[tuple[str, str], bytes | None] = {}
        try:
            if not path.exists():
                _make(path)
            self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            try:
                _check(path, self._connection)  # before anything is written to what may be another's
                self._connection.execute("PRAGMA journal_mode = WAL")
                self._connection.execute("PRAGMA synchronous = NORMAL")
            except BaseException:
                self._connection.close()
                raise
        except sqlite3.Error as error:
            raise StateError(f"{path} can not be read: {error}. {_ADVICE}") from error

    def put(self, kind: str, key: str, value: bytes) -> None:
        self._pending[kind, key] = value

    def delete(self, kind: str, key: str) -> None:
        self._pending[kind, key] = None

    def delete_prefix(self, kind: str, prefix: str) -> None:
        found = self._connection.execute(
            "SELECT key FROM record WHERE kind = ? AND substr(key, 1, ?) = ?", (kind, len(prefix), prefix)
        )
        keys = [key for (key,) in found] + [key for other, key in self._pending if other == kind]
        for key in keys:
            if key.startswith(prefix):
                self.delete(kind, key)

    def rows(self, kind: str) -> Iterator[tuple[str, bytes]]:
        try:
            yield from self._connection.execute("SELECT key, value FROM record WHERE kind = ? ORDER BY key", (kind,))
        except sqlite3.Error as error:
            raise StateError(f"{self.path} can not be read: {error}. {_ADVICE}") from error

    def get(self, kind: str, key: str) -> bytes | None:
        if (kind, key) in self._pending:
            return self._pending[kind, key]
        found = self._connection.execute("SELECT value FROM record WHERE kind = ? AND key = ?", (kind, key)).fetchone()
        return found[0] if found else None

    def commit(self) -> None:
        if not self._pending:
            return
        put = [(kind, key, value) for (kind, key), value in self._pending.items() if value is not None]
        gone = [place for place, value in self._pending.items() if value is None]
        try:
            with self._connection:
                self._connection.execute("BEGIN IMMEDIATE")
                self._connection.executemany(_PUT, put)
                self._connection.executemany("DELETE FROM record WHERE kind = ? AND key = ?", gone)
        except (sqlite3.Error, OverflowError) as error:
            raise NotKeptError(f"what has changed could not be kept in {self.path}: {error}") from error
        self._pending.clear()

    def close(self) -> None:
        try:
            self.commit()
        finally:
            self._connection.close()
            self._pending.clear()


_ADVICE = "Import an export of it (`emulator state import FILE --replace`), or begin anew with `emulator state reset`"


def _make(path: Path) -> None:
    """Under another name first, so that a file of this name is never half made."""
    partial = path.with_name(f".{path.name}.new")
    partial.unlink(missing_ok=True)
    partial.touch(mode=0o600)
    connection = sqlite3.connect(partial, isolation_level=None)
    try:
        connection.execute(f"PRAGMA application_id = {APPLICATION}")
        connection.execute(f"PRAGMA user_version = {FORMAT}")
        connection.execute(_SCHEMA)
    finally:
        connection.close()
    partial.replace(path)


def _check(path: Path, connection: sqlite3.Connection) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if application != APPLICATION:
        raise StateError(f"{path} is empty or no emulator's. {_ADVICE}")
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if found != FORMAT:
        raise StateError(
            f"{path} was kept by {'a newer' if found > FORMAT else 'an older'} emulator (format {found}, "
            f"not {FORMAT}): use that one, or another --state"
        )
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise StateError(f"{path} is damaged: {' '.join(verdict.split())}. {_ADVICE}")
