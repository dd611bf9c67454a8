"""The event loops of containers: the user code's own, and what `asyncio.run` makes inside a container.

This is the one place for all loops that run user code in thread containers. (The client's RPCs run on a loop of its
own, which every container of the process, and the test, share.)
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from emulator.virtual_clock.loop import VirtualLoop

if TYPE_CHECKING:
    from collections.abc import Callable

    from emulator.containers.thread.identity import Identity

CANCEL_SECONDS = 1.0
"""That tasks have to take note of being cancelled when their loop is closed."""


class ContainerLoop(asyncio.SelectorEventLoop):
    """A loop whose signal handlers are the container's, and which its container can wake."""

    def __init__(self, identity: Identity, *options: Any) -> None:
        super().__init__(*options)
        self.identity = identity
        self._handlers: dict[int, tuple[Callable[..., Any], tuple[Any, ...]]] = {}

    def run_forever(self) -> None:
        before = self.identity.interrupts.runs(self)
        try:
            super().run_forever()
        finally:
            self.identity.interrupts.runs(before)

    def add_signal_handler(self, sig: int, callback: Callable[..., object], *args: Any) -> None:  # type: ignore[override]
        self._handlers[sig] = (callback, args)

    def remove_signal_handler(self, sig: int) -> bool:
        return self._handlers.pop(sig, None) is not None

    def deliver(self, sig: int) -> bool:
        """Have a signal's handler called, if there is one. From any thread."""
        found = self._handlers.get(sig)
        if found is None:
            return False
        self.call_soon_threadsafe(found[0], *found[1])
        return True

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """A container that was killed says nothing more."""
        if not self.identity.dead:
            super().call_exception_handler(context)

    def close(self) -> None:
        """Whatever is left on it is cancelled first: in a process it would end with the process."""
        if not self.is_closed() and not self.is_running():
            self._cancel_all()
        super().close()

    def _cancel_all(self) -> None:
        tasks = asyncio.all_tasks(self)
        if not tasks:
            return
        for task in tasks:
            task.cancel()
        with contextlib.suppress(BaseException):  # the container is being ended: what is left goes with its loop
            self.run_until_complete(asyncio.wait(tasks, timeout=CANCEL_SECONDS))
        for task in tasks:
            # "Task was destroyed but it is pending" would be said in the middle of somebody else's test.
            task._log_destroy_pending = False  # type: ignore[attr-defined]


class VirtualContainerLoop(ContainerLoop, VirtualLoop):
    """One whose timers follow the clock."""


def new_loop(identity: Identity) -> ContainerLoop:
    """A loop for code of that container."""
    return ContainerLoop(identity) if identity.inside is None else VirtualContainerLoop(identity, identity.inside)
