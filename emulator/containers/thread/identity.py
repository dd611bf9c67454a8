"""Which container the current code belongs to, and what that container has for itself."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from emulator.containers.thread.interrupts import Interrupts
from emulator.virtual_clock import VirtualClock
from emulator.virtual_clock.inside import Inside

if TYPE_CHECKING:
    import subprocess
    import threading
    from collections.abc import Callable, Iterator
    from concurrent.futures import ThreadPoolExecutor
    from typing import TextIO

    from emulator.clock import Clock


class ContainerEnded(SystemExit):
    """Raised in every thread of a container that was killed, or that outlive it."""


@dataclass(eq=False)
class Identity:
    """One container, as its own code is to see it. Made before its thread starts."""

    task_id: str
    environment: dict[bytes, bytes]
    """All its variables, as `os.environb` has them."""
    clock: Clock
    """The emulator's."""
    stdout: TextIO
    stderr: TextIO
    descriptor: Callable[[str], int]
    """A file descriptor that leads to the container's log, by the stream's name: for children."""
    on_signal: Callable[[int], None]
    """Called when a signal is to end the container, with its number; or with an exit status, negated."""
    handlers: dict[int, Any] = field(default_factory=lambda: {signal.SIGINT: signal.default_int_handler})
    """What `signal.signal` has set."""
    inside: Inside | None = field(default=None, init=False)
    """How its code follows the clock, where that is a virtual one."""
    interrupts: Interrupts = field(default_factory=Interrupts)
    main_thread: int = 0
    threads: WeakSet[threading.Thread] = field(default_factory=WeakSet)
    awaited: WeakSet[threading.Thread] = field(default_factory=WeakSet)
    """Those of them that are no daemons to the container."""
    executors: WeakSet[ThreadPoolExecutor] = field(default_factory=WeakSet)
    children: WeakSet[subprocess.Popen[Any]] = field(default_factory=WeakSet)
    own: dict[str, Any] = field(default_factory=dict)
    """What `compat` keeps of the client for this container: its client, its singletons, its view of shared objects."""
    dead: bool = False
    """It was killed: nothing of it may go on."""

    def __post_init__(self) -> None:
        if isinstance(self.clock, VirtualClock):
            self.inside = self.interrupts.inside = Inside(self.clock)


_CURRENT: ContextVar[Identity | None] = ContextVar("emulator_container", default=None)


def current() -> Identity | None:
    """The container whose code is running, or None for everybody else's."""
    return _CURRENT.get()


@contextmanager
def being(identity: Identity | None) -> Iterator[None]:
    """Be that container's code meanwhile, and so whatever is started meanwhile."""
    token = _CURRENT.set(identity)
    try:
        yield
    finally:
        _CURRENT.reset(token)
