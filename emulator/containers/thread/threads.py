"""Threads, pools, waits and loops of a container's own: all of them carry its identity."""

from __future__ import annotations

import asyncio
import threading
import time  # noqa: TID251 - its `sleep` is exchanged, not asked
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any

from emulator.containers.thread.identity import ContainerEnded, being, current
from emulator.containers.thread.interrupts import FOREVER
from emulator.containers.thread.loops import new_loop
from emulator.virtual_clock.inside import Job, starting_workers, starts_workers
from emulator.virtual_clock.waiter import Waiter

if TYPE_CHECKING:
    from collections.abc import Callable

    from emulator.containers.thread.identity import Identity
    from emulator.containers.thread.patching import Patches

_OWNER = "_emulator_container"
"""An attribute of pools: the container that made it."""


def install(patches: Patches) -> None:
    patches.wrap(threading.Thread, "__init__", _thread)
    patches.wrap(threading.Thread, "start", _start)
    patches.wrap(threading.Condition, "wait", _wait)
    patches.wrap(ThreadPoolExecutor, "__init__", _executor)
    patches.wrap(ThreadPoolExecutor, "submit", _submit)
    patches.wrap(time, "sleep", _sleep)
    policy: Any = asyncio.events.BaseDefaultEventLoopPolicy
    patches.wrap(policy, "new_event_loop", _new_event_loop)


def _thread(original: Callable[..., None]) -> Callable[..., None]:
    """A container's main thread is a daemon to its process, which its own threads are not to inherit."""

    def initialize(self: threading.Thread, *args: Any, **named: Any) -> None:
        original(self, *args, **named)
        identity = current()
        here = threading.current_thread()
        if identity is not None and named.get("daemon") is None:
            self.daemon = threading.get_ident() != identity.main_thread and here not in identity.awaited

    return initialize


def _start(original: Callable[[threading.Thread], None]) -> Callable[[threading.Thread], None]:
    def start(self: threading.Thread) -> None:
        identity = current()
        if identity is not None:
            _bequeath(identity, self)
        original(self)

    return start


def _bequeath(identity: Identity, thread: threading.Thread) -> None:
    """Have a thread that is about to start be the container's."""
    run = thread.run

    def run_in_container() -> None:
        del thread.run  # it refers to the thread
        # That it ends with its container is no error of the thread's.
        with being(identity), suppress(ContainerEnded), helping:
            run()

    helping = nullcontext() if identity.inside is None or starts_workers() else identity.inside.thread(counted=False)
    thread.run = run_in_container  # type: ignore[method-assign]
    identity.threads.add(thread)
    if not thread.daemon:
        # The container waits for it at its end; the process, should it be abandoned, does not.
        identity.awaited.add(thread)
        thread.daemon = True


def _wait(original: Callable[..., bool]) -> Callable[..., bool]:
    """`Condition.wait`, on which events, queues and futures wait too, so that a container's wait can be ended."""

    def wait(self: Any, timeout: float | None = None) -> bool:
        identity = current()
        if identity is None:
            return original(self, timeout)
        if not self._is_owned():
            raise RuntimeError("cannot wait on un-acquired lock")
        waiter = Waiter()
        self._waiters.append(waiter)
        saved = self._release_save()
        got = False
        try:
            got = identity.interrupts.wait(waiter, FOREVER if timeout is None else max(0.0, timeout))
            return got
        finally:
            self._acquire_restore(saved)
            if not got and waiter in self._waiters:
                self._waiters.remove(waiter)

    return wait


def _sleep(original: Callable[[float], None]) -> Callable[[float], None]:
    def sleep(secs: float, /) -> None:
        identity = current()
        if identity is None:
            original(secs)
        else:
            identity.interrupts.sleep(secs)

    return sleep


def _executor(original: Callable[..., None]) -> Callable[..., None]:
    def initialize(self: ThreadPoolExecutor, *args: Any, **named: Any) -> None:
        original(self, *args, **named)
        identity = current()
        setattr(self, _OWNER, identity)
        if identity is not None:
            identity.executors.add(self)

    return initialize


def _submit(original: Callable[..., Any]) -> Callable[..., Any]:
    """A pool may be shared: what it is given runs as whoever gave it."""

    def submit(self: ThreadPoolExecutor, fn: Callable[..., Any], /, *args: Any, **named: Any) -> Any:
        identity = current()
        owner: Identity | None = getattr(self, _OWNER, None)

        job = fn
        if identity is not None and identity.inside is not None:
            job = identity.inside.job(fn, executor=self, workers=self._max_workers)

        def run(*args: Any, **named: Any) -> Any:
            with being(identity):
                return job(*args, **named)

        with being(owner), starting_workers():  # for a worker's thread that this may start
            future = original(self, run, *args, **named)
        if isinstance(job, Job):
            future.add_done_callback(lambda _: job.drop())
        return future

    return submit


def _new_event_loop(original: Callable[[Any], asyncio.AbstractEventLoop]) -> Callable[[Any], asyncio.AbstractEventLoop]:
    def new_event_loop(self: Any) -> asyncio.AbstractEventLoop:
        identity = current()
        return original(self) if identity is None else new_loop(identity)

    return new_event_loop
