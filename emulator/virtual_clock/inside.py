"""Virtual time as the code in a container sees it that is a thread of this process."""

from __future__ import annotations

import math
import queue
import sys
import threading
import traceback
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from emulator.virtual_clock.agenda import INSIDE
from emulator.virtual_clock.loop import VirtualLoop
from emulator.virtual_clock.names import Names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from emulator.virtual_clock.agenda import Due
    from emulator.virtual_clock.clock import VirtualClock


class _Here(threading.local):
    """By thread and not by context: what a thread hands to another loop runs in its context, and is not its code."""

    inside: Inside | None = None


_here = _Here()
_names = Names(lambda: _here.inside)


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

    def __call__(self, *arguments: Any) -> Any:
        with self._inside.thread():
            with self._inside.lock:
                self._jobs.begun += 1
                self._leave_queue()
            try:
                return self._function(*arguments)
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
    """One thread of a container."""

    def __init__(self) -> None:
        self.ident = threading.get_ident()
        self.depth = 0
        self.sleeping: Due | None = None
        self.roused = False
        self.woken: queue.SimpleQueue[None] = queue.SimpleQueue()

    @property
    def asleep(self) -> bool:
        return self.sleeping is not None and not self.sleeping.fired and not self.roused


class Inside:
    """The threads and event loops of one container's code, and the time that they see."""

    def __init__(self, clock: VirtualClock, task_id: str, forget: Callable[[str, None], object]) -> None:
        self.clock = clock
        self.task_id = task_id
        self._forget = forget
        self._threads: dict[int, _Thread] = {}
        self._loops: list[VirtualLoop] = []
        self._jobs: dict[object, _Jobs] = {}
        """What has been handed to other threads of the container, by executor."""
        self.lock = threading.Lock()
        self._ended = False
        _names.take()

    # What the container's runtime does

    @staticmethod
    def here() -> Inside | None:
        """The container whose code this thread runs now."""
        return _here.inside

    @contextmanager
    def thread(self) -> Iterator[None]:
        """This thread runs code of the container: what it asks about time, it is told here."""
        before, _here.inside = _here.inside, self
        with self.lock:
            thread = self._threads.setdefault(threading.get_ident(), _Thread())
            thread.depth += 1
        try:
            yield
        finally:
            _here.inside = before
            with self.lock:
                thread.depth -= 1
                if not thread.depth:
                    del self._threads[thread.ident]

    def job(self, function: Callable[..., Any], *, executor: object = None, workers: float = math.inf) -> Job:
        """`function` for another thread of the container: one of the executor's `workers`, or one of its own."""
        with self.lock:
            return Job(function, self, self._jobs.setdefault(executor, _Jobs(workers)))

    def new_event_loop(self) -> VirtualLoop:
        """A loop for the container's code, whose timers follow the clock."""
        loop = VirtualLoop(self.clock, self.job)
        self._loops = [other for other in self._loops if not other.is_closed()]
        self._loops.append(loop)
        return loop

    def rouse(self, ident: int) -> None:
        """Have a thread that sleeps look up, so that an exception that was set for it is raised; else it sleeps on."""
        with self.lock:
            if (thread := self._threads.get(ident)) is not None:
                thread.roused = True
                thread.woken.put(None)

    def end(self) -> None:
        """The container is gone. What still sleeps in it ends by `SystemExit`. Harmless when repeated."""
        with self.lock:
            if self._ended:
                return
            self._ended = True
            for thread in self._threads.values():
                thread.woken.put(None)
        _names.give_back()
        self._forget(self.task_id, None)

    # What its code does

    def sleep(self, seconds: float) -> None:
        """`time.sleep`, in virtual time."""
        with self.lock:
            thread = self._threads[threading.get_ident()]
        due = self.clock.add(max(0.0, seconds), lambda: thread.woken.put(None), rank=INSIDE)
        thread.sleeping = due
        try:
            while not due.fired:
                if self._ended:
                    raise SystemExit
                thread.roused = False
                thread.woken.get()
        finally:
            thread.sleeping = None
            self.clock.drop(due)

    # What the clock asks

    def at_rest(self, *, held: int, own_ports: frozenset[int]) -> bool:
        """Whether all of its code waits for the clock, or for something that the emulator holds back.

        `held`: requests of the container that wait for others (a call that it has made). `own_ports` are the
        emulator's: what goes on behind them the emulator knows; on other connections of its loops it may wait for the
        world outside.
        """
        with self.lock:
            threads, loops = list(self._threads.values()), list(self._loops)
            queued = any(jobs.queued and jobs.begun < jobs.workers for jobs in self._jobs.values())
        idle = {loop.ident: loop for loop in loops if loop.idle}
        frames = sys._current_frames()
        waits = 0
        for thread in threads:
            if thread.asleep:
                waits += 1
            elif (loop := idle.get(thread.ident)) is not None:
                if loop.strangers(own_ports):
                    return False
                waits += loop.waits_for_time
            elif held > 0 and _blocked(frames.get(thread.ident)):
                held -= 1
                waits += 1
            else:
                return False
        return not queued and (waits > 0 or held > 0)

    def stacks(self, own_ports: frozenset[int]) -> list[str]:
        """Where its threads are, and what its loops are connected to: why it is not at rest."""
        with self.lock:
            threads, loops = list(self._threads.values()), list(self._loops)
        frames = sys._current_frames()
        lines = [f"connected to {stranger}" for loop in loops for stranger in loop.strangers(own_ports)]
        for thread in threads:
            if not thread.asleep and (frame := frames.get(thread.ident)) is not None:
                lines += [line for text in traceback.format_stack(frame) for line in text.splitlines()]
        return lines


def _blocked(frame: object) -> bool:
    """Whether a thread waits, without a time limit of its own, for another thread to wake it."""
    code, local = getattr(frame, "f_code", None), getattr(frame, "f_locals", {})
    return code is not None and code.co_filename == threading.__file__ and local.get("timeout") is None
