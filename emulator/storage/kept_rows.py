"""Rows of Dicts and Queues in a store: one record each, under `<object id>/<digest of the row's key>`."""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING

from emulator.storage.store import StateError

if TYPE_CHECKING:
    from emulator.storage.rows import Changed, Key, Value
    from emulator.storage.store import Store


class KeptRows:
    """Those of one kind of objects."""

    def __init__(self, store: Store, kind: str) -> None:
        self._store = store
        self._kind = kind

    def load(self) -> dict[str, list[tuple[Key, Value]]]:
        """The rows of each object, by its id. Raises `StateError` for what has not been written here."""
        found: dict[str, list[tuple[Key, Value]]] = {}
        for place, data in self._store.rows(self._kind):
            object_id = place.partition("/")[0]
            try:
                found.setdefault(object_id, []).append(unpacked(data))
            except (struct.error, ValueError) as error:
                raise StateError(f"the record {place} ({self._kind}) can not be read: {error}") from error
        return found

    def of(self, object_id: str) -> Changed:
        """What keeps the changes of one object."""

        def changed(key: Key, value: Value | None) -> None:
            place = f"{object_id}/{hashlib.sha256(packed(key, ())).hexdigest()}"
            if value is None:
                self._store.delete(self._kind, place)
            else:
                self._store.put(self._kind, place, packed(key, value))

        return changed

    def drop(self, object_id: str) -> None:
        """The object is gone."""
        self._store.delete_prefix(self._kind, f"{object_id}/")


def packed(key: Key, value: Value) -> bytes:
    """How many fields the key has, and all fields: a letter, and 8 bytes that are a number or how many bytes follow."""
    parts = [bytes([len(key)])]
    for field in (*key, *value):
        match field:
            case bytes():
                parts += [struct.pack(">cQ", b"b", len(field)), field]
            case float():
                parts.append(struct.pack(">cd", b"f", field))
            case int():
                parts.append(struct.pack(">cq", b"i", field))
    return b"".join(parts)


def unpacked(data: bytes) -> tuple[Key, Value]:
    """Raises `ValueError` or `struct.error` for what `packed` has not made."""
    fields: list[bytes | float] = []
    at = 1
    while at < len(data):
        letter, after = data[at : at + 1], at + 9
        if letter == b"b":
            (size,) = struct.unpack(">Q", data[at + 1 : after])
            fields.append(data[after : after + size])
            after += size
        elif letter in (b"f", b"i"):
            fields += struct.unpack(">d" if letter == b"f" else ">q", data[at + 1 : after])
        else:
            raise ValueError(f"a field of an unknown kind: {letter!r}")
        at = after
    if at != len(data) or not data:
        raise ValueError("it ends too early")
    return tuple(fields[: data[0]]), tuple(fields[data[0] :])
