"""The versions and the history of apps as records, one for each: a deploy writes no more than it has changed."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from emulator.state import AppVersion, Definition
from emulator.storage.plain import dumped, loaded
from emulator.storage.store import StateError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from emulator.state import App
    from emulator.storage.plain import Shapes
    from emulator.storage.store import Store


class KeptVersions:
    """Definitions are kept by what is in them: most versions share most of theirs."""

    def __init__(self, store: Store, shapes: Shapes) -> None:
        self._store = store
        self._shapes = shapes
        self._versions: dict[str, AppVersion] = {}
        """As written, by key. They never change."""
        self._history: dict[str, int] = {}
        """Entries that are written, by app."""
        self._digests: dict[int, tuple[Definition, str]] = {}

    def load(self, apps: Mapping[str, App]) -> None:
        """Give the apps their versions and histories. Raises `StateError`."""
        definitions = {key: self._definition(key, data) for key, data in self._store.rows("definitions")}
        for key, data in self._store.rows("versions"):
            app_id, number = _place(key)
            if app_id in apps:
                self._versions[key] = apps[app_id].versions[number] = self._version(key, data, definitions)
        for key, data in self._store.rows("history"):
            app_id, _ = _place(key)
            if app_id in apps:
                apps[app_id].history.append(self._read(key, data))  # type: ignore[arg-type]
                self._history[app_id] = len(apps[app_id].history)
        used = {id(made) for version in self._versions.values() for made in version.definitions.values()}
        for digest, made in definitions.items():
            if id(made) in used:
                self._digests[id(made)] = made, digest
            else:
                self._store.delete("definitions", digest)

    def _definition(self, key: str, data: bytes) -> Definition:
        made = self._read(key, data)
        if not isinstance(made, Definition) or _digest(data) != key:
            raise StateError(f"the record of the definition {key} is damaged")
        return made

    def _version(self, key: str, data: bytes, definitions: Mapping[str, Definition]) -> AppVersion:
        match self._read(key, data):
            case [dict() as function_ids, dict() as class_ids, dict() as digests]:
                pass
            case _:
                raise StateError(f"the record of the version {key} is damaged")
        if missing := set(digests.values()) - definitions.keys():
            raise StateError(f"the version {key} has lost definitions: {', '.join(sorted(missing))}")
        return AppVersion(function_ids, class_ids, {name: definitions[found] for name, found in digests.items()})

    def _read(self, key: str, data: bytes) -> object:
        try:
            return loaded(data, self._shapes)
        except ValueError as error:
            raise StateError(f"the record of {key} can not be read: {error}") from error

    def sync(self, apps: Mapping[str, App]) -> None:
        """Put what is new."""
        there = {_key(app.app_id, number): made for app in apps.values() for number, made in app.versions.items()}
        for key, version in there.items():
            if self._versions.get(key) is not version:
                digests = {name: self._put_definition(made) for name, made in version.definitions.items()}
                content = [dict(version.function_ids), dict(version.class_ids), digests]
                self._store.put("versions", key, dumped(content, self._shapes))
        for key in self._versions.keys() - there.keys():
            self._store.delete("versions", key)
        if self._versions.keys() - there.keys():
            used = {id(made) for version in there.values() for made in version.definitions.values()}
            for unused in self._digests.keys() - used:
                del self._digests[unused]
        self._versions = there
        self._sync_history(apps)

    def _put_definition(self, made: Definition) -> str:
        known = self._digests.get(id(made))
        if known is None:
            data = dumped(made, self._shapes)
            known = self._digests[id(made)] = made, _digest(data)
            self._store.put("definitions", known[1], data)
        return known[1]

    def _sync_history(self, apps: Mapping[str, App]) -> None:
        for app in apps.values():
            for index in range(self._history.get(app.app_id, 0), len(app.history)):
                self._store.put("history", _key(app.app_id, index), dumped(app.history[index], self._shapes))
            if app.history:
                self._history[app.app_id] = len(app.history)
        for app_id in self._history.keys() - apps.keys():
            del self._history[app_id]
            self._store.delete_prefix("history", f"{app_id}/")


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _key(app_id: str, number: int) -> str:
    return f"{app_id}/{number:08d}"


def _place(key: str) -> tuple[str, int]:
    app_id, _, number = key.partition("/")
    return app_id, int(number)
