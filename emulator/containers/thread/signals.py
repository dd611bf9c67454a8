"""Signals as one container sees them: its handlers are its own, and `os.kill` of its own process reaches it alone."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING, Any

from emulator.containers.thread.identity import ContainerEnded, being, current
from emulator.containers.thread.loops import ContainerLoop

if TYPE_CHECKING:
    from collections.abc import Callable

    from emulator.containers.thread.identity import Identity
    from emulator.containers.thread.patching import Patches

_IGNORED = frozenset((signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH, 0))
"""By default."""


def deliver(identity: Identity, number: int) -> None:
    """Do to a container what a signal does to a process. From any thread."""
    if identity.dead:
        return
    handler = identity.handlers.get(number, signal.SIG_DFL)
    loop = identity.interrupts.loop_of(identity.main_thread)
    if number == signal.SIGKILL:
        identity.on_signal(number)
    elif isinstance(loop, ContainerLoop) and loop.deliver(number):
        return
    elif handler == signal.SIG_DFL:
        if number not in _IGNORED:
            identity.on_signal(number)
    elif handler == signal.SIG_IGN:
        return
    elif handler is signal.default_int_handler:
        identity.interrupts.interrupt(identity.main_thread, KeyboardInterrupt())
    else:
        _call(identity, handler, number)


def _call(identity: Identity, handler: Callable[[int, None], object], number: int) -> None:
    """What a handler raises is raised in the container's main thread, where Python would have called it."""

    def handle() -> None:
        with being(identity):
            try:
                handler(number, None)
            except BaseException as error:
                identity.interrupts.interrupt(identity.main_thread, error)

    # Not in the caller's thread: that may be the emulator's own, and what a user's handler does is anybody's guess.
    threading.Thread(target=handle, name=f"signal {number} of {identity.task_id}", daemon=True).start()


def install(patches: Patches) -> None:
    for module, name, make in (
        (signal, "signal", _signal),
        (signal, "getsignal", _getsignal),
        (signal, "raise_signal", _raise_signal),
        (os, "kill", _kill),
        (os, "_exit", _exit),
    ):
        patches.wrap(module, name, make)


def _signal(original: Callable[..., Any]) -> Callable[..., Any]:
    def set_handler(signalnum: int, handler: Any) -> Any:
        identity = current()
        if identity is None:
            return original(signalnum, handler)
        before = identity.handlers.get(signalnum, signal.SIG_DFL)
        identity.handlers[signalnum] = handler
        return before

    return set_handler


def _getsignal(original: Callable[[int], Any]) -> Callable[[int], Any]:
    def get_handler(signalnum: int) -> Any:
        identity = current()
        return original(signalnum) if identity is None else identity.handlers.get(signalnum, signal.SIG_DFL)

    return get_handler


def _raise_signal(original: Callable[[int], None]) -> Callable[[int], None]:
    def raise_signal(signalnum: int) -> None:
        identity = current()
        return original(signalnum) if identity is None else _deliver_to_self(identity, signalnum)

    return raise_signal


def _kill(original: Callable[[int, int], None]) -> Callable[[int, int], None]:
    def kill(pid: int, sig: int) -> None:
        identity = current()
        if identity is None or pid not in (0, os.getpid()):
            original(pid, sig)
        else:
            _deliver_to_self(identity, sig)

    return kill


def _deliver_to_self(identity: Identity, number: int) -> None:
    deliver(identity, number)
    _leave_if_dead(identity)


def _exit(original: Callable[[int], Any]) -> Callable[[int], Any]:
    def leave(status: int) -> None:
        identity = current()
        if identity is None:
            original(status)
        else:
            identity.on_signal(-(status & 0xFF))
            _leave_if_dead(identity)

    return leave


def _leave_if_dead(identity: Identity) -> None:
    """Nothing of a process runs on after the call that ended it."""
    if identity.dead:
        raise ContainerEnded
