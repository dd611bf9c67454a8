"""What containers as threads need of the process: put in place with the first of them, taken away after the last."""

from __future__ import annotations

import threading

from emulator.containers.compat import thread as client
from emulator.containers.thread import children, environment, modules, signals, streams, threads, virtual_time
from emulator.containers.thread.patching import Patches


class Installation:
    """One for a process, since what it exchanges is the process's. Users are counted: runtimes that have containers."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users: set[object] = set()
        self._patches = Patches()

    def enter(self, user: object) -> None:
        """Have everything in place from now on, for that user too."""
        with self._lock:
            if not self._users:
                try:
                    self._install()
                except BaseException:
                    self._patches.undo()
                    raise
            self._users.add(user)

    def refresh(self) -> None:
        """Somebody may have exchanged what is in place: whoever captures output does, between the phases of a test."""
        with self._lock:
            if self._users:
                streams.route()

    def leave(self, user: object) -> None:
        """That user has no containers any more."""
        with self._lock:
            if user in self._users:
                self._users.remove(user)
                if not self._users:
                    self._patches.undo()

    def _install(self) -> None:
        client.install(self._patches)  # first: what it starts is the process's
        for part in (environment, signals, streams, children, threads, virtual_time, modules):
            part.install(self._patches)
        for handler in client.log_handlers():
            self._patches.put(handler, "stream", streams.Router("stderr", handler.stream))


INSTALLATION = Installation()
