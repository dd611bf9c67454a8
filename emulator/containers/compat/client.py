"""What the `modal` client of this process remembers of its server, exchanged for a memory that is an emulator's.

The client keeps one connection for the whole process, its user's configuration, and in each object (a function, a
Volume) what the server said of it. A test's emulator replaces all of that for as long as it is in force. Private names
of the client, as in `compat`; seen in 1.5.5 and 1.6.4.
"""

from __future__ import annotations

import importlib
import weakref
from typing import Any


class ClientMemory:
    """The client's memory while one emulator is its server. `enter` and `leave` may alternate; `close` once, inside."""

    def __init__(self) -> None:
        objects = importlib.import_module("modal._object")
        environments = importlib.import_module("modal._environments")
        self._configuration: Any = importlib.import_module("modal.config")
        self._clients = importlib.import_module("modal.client")._Client
        self._object_type = objects._Object
        self._environments: dict[str, Any] = environments.ENVIRONMENT_CACHE
        self._other: dict[str, Any] = {"client": None, "config": {}, "profile": "default", "environments": {}}
        self._touched: weakref.WeakKeyDictionary[Any, dict[str, Any]] = weakref.WeakKeyDictionary()
        """Objects that were told of this server, with what they are on the other side of `_exchange`."""
        self._originals: dict[str, Any] = {}

    def enter(self) -> None:
        """From now on the client knows nothing but what it learned in here."""
        self._exchange()
        for name in ("_hydrate", "_unhydrate"):
            self._originals[name] = getattr(self._object_type, name)
            setattr(self._object_type, name, self._remembering(self._originals[name]))

    def leave(self) -> None:
        """Everything is as before `enter`."""
        for name, original in self._originals.items():
            setattr(self._object_type, name, original)
        self._exchange()

    def close(self) -> None:
        """Close the connection, while in force."""
        if self._clients._client_from_env is not None:
            import modal

            modal.Client.from_env().close()

    def _remembering(self, original: Any) -> Any:
        def remembered(this: Any, *args: Any, **named: Any) -> Any:
            self._touched.setdefault(this, dict(vars(this)))
            return original(this, *args, **named)

        return remembered

    def _exchange(self) -> None:
        configuration, other = self._configuration, self._other
        self._other = {
            "client": self._clients._client_from_env,
            "config": configuration._user_config,
            "profile": configuration._profile,
            "environments": dict(self._environments),
        }
        self._clients._client_from_env = other["client"]
        configuration._user_config = other["config"]
        configuration._profile = other["profile"]
        self._environments.clear()
        self._environments.update(other["environments"])
        for item, state in list(self._touched.items()):
            self._touched[item] = dict(vars(item))
            vars(item).clear()
            vars(item).update(state)
