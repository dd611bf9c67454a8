"""The emulator's own state as records: read when it starts, compared and written whenever something has changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modal_proto import api_pb2

from emulator.state import State
from emulator.storage.plain import dumped, loaded
from emulator.storage.shapes import StateShapes, kept_fields
from emulator.storage.store import StateError
from emulator.storage.versions import KeptVersions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from emulator.state import App, FunctionRecord
    from emulator.storage.store import Store

NEED_NO_NAME = frozenset({"apps", "classes", "environments", "images", "mounts", "proxy_tokens", "secrets"})
"""Kinds whose objects are kept whether they have a name or not."""


class Keeper:
    """Keeps the dictionaries of `State`, each object as one record, under its id."""

    def __init__(self, store: Store, state: State, folder: Path) -> None:
        self._store = store
        self._state = state
        self._shapes = StateShapes(folder)
        self._versions = KeptVersions(store, self._shapes)
        self._kinds = kept_fields(State)
        self._written: dict[tuple[str, str], bytes] = {}
        self._unchanging: dict[tuple[str, str], object] = {}
        """Of frozen dataclasses: what was written."""
        self._overrides: dict[str, bytes] = {}

    def load(self, now: float) -> None:
        """Fill the state. Apps that were not deployed have ended with their emulator, at the latest at `now`.

        Raises `StateError` for what can not be understood, by its name.
        """
        for kind in self._kinds:
            getattr(self._state, kind).update(self._read(kind))
        self._versions.load(self._state.apps)
        for app in self._state.apps.values():
            if app.live and app.state != api_pb2.APP_STATE_DEPLOYED:
                app.state, app.stopped_at = api_pb2.APP_STATE_STOPPED, now
            app.log.done = not app.live
        self._forget_unused()
        self._overrides = dict(self._store.rows("overrides"))

    def _read(self, kind: str) -> Iterator[tuple[str, Any]]:
        for key, data in self._store.rows(kind):
            try:
                yield key, loaded(data, self._shapes)
            except ValueError as error:
                raise StateError(f"the record of {key} ({kind}) can not be read: {error}") from error
            self._written[kind, key] = data

    def _forget_unused(self) -> None:
        """Mounts and Secrets without a name are made anew by each deploy: what no kept version has, nobody has."""
        definitions = [
            kept.definition
            for app in self._state.apps.values()
            for version in app.versions.values()
            for kept in version.definitions.values()
        ]
        mounts = {mount_id for definition in definitions for mount_id in definition.mount_ids}
        secrets = {secret_id for definition in definitions for secret_id in definition.secret_ids}
        for mount_id in self._state.mounts.keys() - mounts:
            del self._state.mounts[mount_id]
        for secret in list(self._state.secrets.values()):
            if not secret.name and secret.secret_id not in secrets:
                del self._state.secrets[secret.secret_id]

    def overrides(self, function_id: str) -> api_pb2.AutoscalerSettings:
        """What `update_autoscaler` had set of a function."""
        return api_pb2.AutoscalerSettings.FromString(self._overrides.get(function_id, b""))

    def sync(self) -> None:
        """Put what is new or different since the last time. The store's `commit` has to follow."""
        there = set[tuple[str, str]]()
        for kind in self._kinds:
            for key, value in getattr(self._state, kind).items():
                if kind in NEED_NO_NAME or value.name:
                    there.add((kind, key))
                    self._put(kind, key, value)
        for place in self._written.keys() - there:
            del self._written[place]
            self._unchanging.pop(place, None)
            self._store.delete(*place)
        self._versions.sync(self._state.apps)
        self._sync_overrides()

    def _put(self, kind: str, key: str, value: Any) -> None:
        if self._unchanging.get((kind, key)) is value:
            return
        data = dumped(value, self._shapes)
        if self._written.get((kind, key)) != data:
            self._written[kind, key] = data
            self._store.put(kind, key, data)
        if value.__dataclass_params__.frozen:
            self._unchanging[kind, key] = value

    def _sync_overrides(self) -> None:
        there = {
            record.function_id: record.overrides.SerializeToString()
            for app in self._state.apps.values()
            if app.state == api_pb2.APP_STATE_DEPLOYED
            for record in self._in_force(app)
            if record.overrides.ByteSize()
        }
        for function_id, data in there.items():
            if self._overrides.get(function_id) != data:
                self._store.put("overrides", function_id, data)
        for function_id in self._overrides.keys() - there.keys():
            self._store.delete("overrides", function_id)
        self._overrides = there

    def _in_force(self, app: App) -> list[FunctionRecord]:
        found = (self._state.functions.get(function_id) for function_id in app.function_ids.values())
        return [record for record in found if record is not None]
