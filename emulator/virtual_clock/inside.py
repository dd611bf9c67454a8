"""Virtual time as the code in a container sees it that is a thread of this process."""

from __future__ import annotations

import math
import sys
import threading
import traceback
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from emulator.virtual_clock.agenda import INSIDE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from emulator.virtual_clock.agenda import Due
    from emulator.virtual_clock.clock import VirtualClock
    from emulator.virtual_clock.loop import VirtualLoop
    from emulator.virtual_clock.waiter import Waiter


class _Here(threading.local):
    """By thread and not by context: what a thread hands to another loop runs in its context, and is not its code."""

    inside: Inside | None = None
    starts_workers = False


_here = _Here()


@contextmanager
def starting_workers() -> Iterator[None]:
    """The threads that this thread starts meanwhile are a pool's: its jobs are the container's code, they are not."""
    before, _here.starts_workers = _here.starts_workers, True
    try:
        yield
    finally:
        _here.starts_workers = before


def starts_workers() -> bool:
    """Whether a thread that is being started by this one is a pool's."""
    return _here.starts_workers


@dataclass(eq=False)
class _Jobs:
    """Of one executor."""

    workers: float
    queued: int = 0
    begun: int = 0


class Job:
    """A function for another thread of a container, which is not at rest until it has begun there."""

    def __init__(self, function: Callable[..., Any], inside: Inside, jobs: _Jobs) -> None:
        self._function = function
        self._inside = inside
        self._jobs = jobs
        self._waits = True
        jobs.queued += 1

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        with self._inside.thread():
            with self._inside.lock:
                self._jobs.begun += 1
                self._leave_queue()
            try:
                return self._function(*arguments, **named)
            finally:
                with self._inside.lock:
                    self._jobs.begun -= 1

    def drop(self) -> None:
        with self._inside.lock:
            self._leave_queue()

    def _leave_queue(self) -> None:
        self._jobs.queued -= self._waits
        self._waits = False


class _Thread:
    """One thread of a container. `counted`: the container is not at rest before it waits."""

    def __init__(self, *, counted: bool) -> None:
        self.ident = threading.get_ident()
        self.counted = counted
        self.depth = 0
        self.waiter: Waiter | None = None
        self.due: Due | None = None
        """At which its wait ends by itself."""

    @property
    def waits(self) -> bool:
        return self.waiter is not None and self.waiter.waits


class Inside:
    """The threads and event loops of one container's code, and the time that they see."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self._threads: dict[int, _Thread] = {}
        self._loops: list[VirtualLoop] = []
        self._jobs: dict[object, _Jobs] = {}
        """What has been handed to other threads of the container, by executor."""
        self.lock = threading.Lock()

    # What the container's runtime does

    @staticmethod
    def here() -> Inside | None:
        """The container whose code this thread runs now."""
        return _here.inside

    @contextmanager
    def thread(self, *, counted: bool = True) -> Iterator[None]:
        """This thread runs code of the container: what it asks about time, it is told here.

        `counted`: it works on what the container is there for; else it is a helper that may go on for ever.
        """
        before, _here.inside = _here.inside, self
        with self.lock:
            thread = self._threads.setdefault(threading.get_ident(), _Thread(counted=counted))
            was_counted, thread.counted = thread.counted, counted
            thread.depth += 1
        try:
            yield
        finally:
            _here.inside = before
            with self.lock:
                thread.counted = was_counted
                thread.depth -= 1
                if not thread.depth:
                    del self._threads[thread.ident]

    def job(self, function: Callable[..., Any], *, executor: object = None, workers: float = math.inf) -> Job:
        """`function` for another thread of the container: one of the executor's `workers`, or one of its own."""
        with self.lock:
            return Job(function, self, self._jobs.setdefault(executor, _Jobs(workers)))

    def add_loop(self, loop: VirtualLoop) -> None:
        """A loop that runs code of the container."""
        with self.lock:
            self._loops = [other for other in self._loops if not other.is_closed()]
            self._loops.append(loop)

    # What its code does

    def wait(self, waiter: Waiter, seconds: float) -> bool:
        """Wait in this thread, in virtual time; negative `seconds`: without a limit. False: its time was over."""
        thread = self._threads[threading.get_ident()]
        if seconds >= 0:
            thread.due = self.clock.add(seconds, waiter.expire, rank=INSIDE)
        thread.waiter = waiter
        try:
            waiter.acquire()
            return not waiter.expired
        finally:
            thread.waiter = None
            if thread.due is not None:
                self.clock.drop(thread.due)
                thread.due = None

    # What the clock asks

    def at_rest(self, *, held: int, own_ports: frozenset[int]) -> bool:
        """Whether all of its code waits for the clock, or for something that the emulator holds back.

        `held`: requests of the container that wait for others (a call that it has made). `own_ports` are the
        emulator's: what goes on behind them the emulator knows; on other connections of its loops it may wait for the
        world outside.
        """
        with self.lock:
            threads, loops = [thread for thread in self._threads.values() if thread.counted], list(self._loops)
            queued = any(jobs.queued and jobs.begun < jobs.workers for jobs in self._jobs.values())
        idle = {loop.ident: loop for loop in loops if loop.idle}
        for_time = 0
        for thread in threads:
            if thread.waits:
                for_time += thread.due is not None
            elif (loop := idle.get(thread.ident)) is not None and not loop.strangers(own_ports):
                for_time += loop.waits_for_time
            else:
                return False
        return not queued and (for_time > 0 or held > 0)

    def stacks(self, own_ports: frozenset[int]) -> list[str]:
        """Where its threads are, and what its loops are connected to: why it is not at rest."""
        with self.lock:
            threads, loops = list(self._threads.values()), list(self._loops)
        frames = sys._current_frames()
        lines = [f"connected to {stranger}" for loop in loops for stranger in loop.strangers(own_ports)]
        for thread in threads:
            if thread.counted and not thread.waits and (frame := frames.get(thread.ident)) is not None:
                lines += _stack(frame)
        return lines


def _stack(frame: FrameType) -> list[str]:
    """Where a thread is, which may go on meanwhile: then what was its frame may be none any more."""
    try:
        return [line for text in traceback.format_stack(frame) for line in text.splitlines()]
    except AttributeError:
        return ["its code runs"]
