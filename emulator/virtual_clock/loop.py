"""An event loop for a container's code: what it waits for comes by the virtual clock, or through its sockets."""

from __future__ import annotations

import asyncio
import select
import selectors
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from emulator.virtual_clock.agenda import INSIDE
from emulator.virtual_clock.waits import soon

if TYPE_CHECKING:
    from collections.abc import Callable

    from emulator.virtual_clock.agenda import Due
    from emulator.virtual_clock.inside import Inside


class VirtualLoop(asyncio.SelectorEventLoop):
    """Its `time`, and so `asyncio.sleep`, `call_later`, `asyncio.timeout` and their kin, are the clock's."""

    def __init__(self, inside: Inside) -> None:
        self._virtual = inside.clock
        self.ident = 0
        """The thread that waits in it."""
        self._waits = False
        self._due: Due | None = None
        self._chosen = _Selector(self._wait)
        super().__init__(self._chosen)
        self._own = self._descriptors()
        inside.add_loop(self)

    def time(self) -> float:
        return self._virtual.monotonic()

    @property
    def idle(self) -> bool:
        """Whether it waits, and nothing that it waits for has come."""
        due = self._due
        if not self._waits or (due is not None and due.fired):
            return False
        return not self._chosen.has_something() and self._waits

    @property
    def waits_for_time(self) -> bool:
        return self._due is not None

    def _wait(self, seconds: float | None, wait: Callable[[], list[Any]]) -> list[Any]:
        """Nothing is ready: wait for sockets, other threads, and the clock."""
        self.ident = threading.get_ident()
        if seconds is not None:
            self._due = self._virtual.add(seconds, lambda: soon(self, lambda: None), rank=INSIDE)
        self._waits = True
        try:
            return wait()
        finally:
            self._waits = False
            if self._due is not None:
                self._virtual.drop(self._due)
                self._due = None

    def strangers(self, own_ports: frozenset[int]) -> list[str]:
        """Whom it is connected to (or may be), but for those ports of this machine."""
        with suppress(RuntimeError):  # it runs, and opens or closes one just now
            found = [_peer(descriptor) for descriptor in self._descriptors() - self._own]
            return [name for name, port in found if name and port not in own_ports]
        return ["what changes just now"]

    def _descriptors(self) -> frozenset[int]:
        return frozenset(key.fd for key in list((self._chosen.get_map() or {}).values()))  # none: it is closed


def _peer(descriptor: int) -> tuple[str, int]:
    """Name and port (0: not of this machine) of the other end; no name where there is none."""
    try:
        connection = socket.socket(fileno=descriptor)
    except OSError:
        return f"a pipe or device (descriptor {descriptor})", 0
    try:
        host, port = connection.getpeername()[:2]
    except OSError:  # it listens, or is closed
        return "", 0
    except ValueError:  # a unix socket
        return f"a unix socket (descriptor {descriptor})", 0
    else:
        return f"{host}:{port}", port if host == "127.0.0.1" else 0
    finally:
        connection.detach()


class _Selector(selectors.DefaultSelector):
    """Has somebody else wait when nothing is ready."""

    def __init__(self, wait: Callable[[float | None, Callable[[], list[Any]]], list[Any]]) -> None:
        super().__init__()
        self._wait_with = wait

    def select(self, timeout: float | None = None) -> list[Any]:
        if (found := super().select(0)) or (timeout is not None and timeout <= 0):
            return found
        wait = super().select
        return self._wait_with(timeout, lambda: wait(None))

    def has_something(self) -> bool:
        """Whether `select` would return at once. From any thread."""
        try:
            return bool(select.select([self.fileno()], [], [], 0)[0])
        except (OSError, ValueError):
            return True
