"""Waits that can be ended from outside, and exceptions that are raised in other threads.

A process is interrupted by signals, which only its main thread feels. In their place stand: waiting on locks of our own
that whoever interrupts may release; waking a thread's event loop; and an exception that Python raises in another thread
before its next instruction. Code that blocks elsewhere in C can not be interrupted.
"""

from __future__ import annotations

import ctypes
import threading
from typing import TYPE_CHECKING

from emulator.virtual_clock.waiter import Waiter

if TYPE_CHECKING:
    import asyncio

    from emulator.virtual_clock.inside import Inside

_LAST_WAIT = 0.02
"""Seconds that a wait lasts, instead of its own, in a thread of a container that has ended: `finally` may wait."""
FOREVER = -1.0
"""As `lock.acquire` has it."""


class Interrupts:
    """Of one container's threads."""

    def __init__(self) -> None:
        self.inside: Inside | None = None
        """Of a container that follows a virtual clock: how its threads wait."""
        self._lock = threading.Lock()
        self._waits: dict[int, Waiter] = {}
        self._pending: dict[int, BaseException] = {}
        self._loops: dict[int, asyncio.AbstractEventLoop] = {}
        self._ended: type[BaseException] | None = None

    def wait(self, waiter: Waiter, seconds: float = FOREVER) -> bool:
        """Wait until it is released, or raise the exception with which this thread is interrupted meanwhile.

        False when `seconds` have passed, which in a container that follows a virtual clock are that clock's.
        """
        thread = threading.get_ident()
        with self._lock:
            ended = self._ended
            if ended is None:
                self._waits[thread] = waiter
        if ended is not None:
            if seconds < 0:
                raise ended
            return waiter.acquire(timeout=min(seconds, _LAST_WAIT))
        try:
            if self.inside is not None and self.inside.here() is self.inside and seconds != 0:
                got = self.inside.wait(waiter, seconds)
            else:
                got = waiter.acquire(timeout=max(FOREVER, min(seconds, threading.TIMEOUT_MAX)))
        finally:
            with self._lock:
                self._waits.pop(thread, None)
                error = self._pending.pop(thread, None)
        if error is not None:
            raise error
        return got

    def sleep(self, seconds: float) -> None:
        """As `time.sleep`."""
        if seconds < 0:
            raise ValueError("sleep length must be non-negative")
        self.wait(Waiter(), seconds)

    def runs(self, loop: asyncio.AbstractEventLoop | None) -> asyncio.AbstractEventLoop | None:
        """This thread runs that loop now. Returns the one that it ran before."""
        thread = threading.get_ident()
        with self._lock:
            before = self._loops.pop(thread, None)
            if loop is not None:
                self._loops[thread] = loop
            return before

    def loop_of(self, thread: int) -> asyncio.AbstractEventLoop | None:
        """The loop that a thread runs now."""
        return self._loops.get(thread)

    def interrupt(self, thread: int, error: BaseException) -> None:
        """Raise an exception in a thread of the container, as soon as it can feel it."""
        with self._lock:
            waiter = self._waits.pop(thread, None)
            if waiter is not None:
                self._pending[thread] = error
                _release(waiter)
                return
            _raise_in(thread, error)
            loop = self._loops.get(thread)
        if loop is not None:
            _wake(loop)

    def end(self, threads: list[int], kind: type[BaseException]) -> None:
        """Interrupt all of these threads but the caller's, and whatever waits from now on."""
        with self._lock:
            self._ended = kind
        for thread in threads:
            if thread != threading.get_ident():
                self.interrupt(thread, kind())


def _release(waiter: Waiter) -> None:
    try:
        waiter.release()
    except RuntimeError:  # what it waited for has come at the same moment
        return


def _raise_in(thread: int, error: BaseException) -> None:
    """Python takes a class and makes the exception itself, so one with arguments goes as a class that has them."""
    kind: type[BaseException] = type(error)
    if arguments := error.args:
        base = kind

        def initialize(self: BaseException, *_: object) -> None:
            base.__init__(self, *arguments)

        made = {"__init__": initialize, "__module__": base.__module__, "__qualname__": base.__qualname__}
        kind = type(base.__name__, (base,), made)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(kind))


def _wake(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.call_soon_threadsafe(lambda: None)
    except RuntimeError:  # it has been closed in the meantime
        return
