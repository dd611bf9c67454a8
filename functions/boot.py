"""What a cold start is made of: the phases of an engine's boot, each timed, in the container that boots.

Nothing is guessed: a phase that cannot be told from where it happened is absent. What comes before the container's
own process (queueing for a machine, pulling the image) only the platform knows.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Phase = Literal["container", "download", "import", "weights", "warm_up", "resume", "ready"]
"""In the order in which they happen.

`container`: from the start of the container's process until it starts its engine (the platform's runtime, our modules).
`download`: the weights come over the network; absent where they were on the disk.
`import`: the engine's process starts and loads its modules.
`weights`: they are read into memory.
`warm_up`: caches are sized, graphs captured, kernels compiled, a first request answered (by llama.cpp with `weights`).
`resume`: an engine that was asleep in a memory snapshot takes its memory back, in the place of all four before.
`ready`: no part but the whole: from the first known moment until requests are answered.
"""
PHASES: Final[tuple[Phase, ...]] = ("container", "download", "import", "weights", "warm_up", "resume", "ready")


@dataclass(frozen=True, kw_only=True)
class BootPhases:
    """Seconds of each phase that is known, in their order."""

    seconds: Mapping[Phase, float] = field(default_factory=dict)

    def __str__(self) -> str:
        return ", ".join(f"{phase} {seconds:.2f} s" for phase, seconds in self.seconds.items())


class Boot:
    """Records one boot. Any thread may tell it what begins; what has passed does not begin again."""

    def __init__(self, *, container: float | None = None, monotonic: Callable[[], float] = time.monotonic) -> None:
        """`container`: seconds that the container's process is old, where that is known."""
        self._container = container
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._began = monotonic()
        self._marks: list[tuple[Phase, float]] = []
        self._ready: float | None = None

    @property
    def is_over(self) -> bool:
        return self._ready is not None

    def begins(self, phase: Phase) -> None:
        """`phase` begins now, and what went on before is over. Of several processes that say so, the first counts."""
        with self._lock:
            if self._ready is None and (not self._marks or _order(phase) > _order(self._marks[-1][0])):
                self._marks.append((phase, self._monotonic()))

    def reads(self, line: str, landmarks: Mapping[str, Phase]) -> None:
        """A line of the engine's log; `landmarks`: a part of a line -> the phase that begins with it."""
        if self._ready is not None:
            return
        for landmark, phase in landmarks.items():
            if landmark in line:
                self.begins(phase)

    def is_ready(self) -> BootPhases:
        """Requests are answered from now on (or were, from the first time that this was said)."""
        with self._lock:
            if self._ready is None:
                self._ready = self._monotonic()
        return self.phases()

    def phases(self) -> BootPhases:
        """What is known of it now; a phase that goes on is not among it."""
        with self._lock:
            marks, ready = list(self._marks), self._ready
        ends = [at for _, at in marks[1:]] + ([] if ready is None else [ready])
        seconds: dict[Phase, float] = {} if self._container is None else {"container": self._container}
        seconds |= {phase: end - began for (phase, began), end in zip(marks, ends, strict=False)}
        if ready is not None:
            seconds["ready"] = ready - self._began + (self._container or 0.0)
        return BootPhases(seconds=seconds)


def _order(phase: Phase) -> int:
    return PHASES.index(phase)


def container_seconds() -> float | None:
    """How old this process is, where it is a container's own.

    None where the system does not tell, and on another thread than the main one: the container is a thread then, of a
    process that was there before it.
    """
    if sys.platform != "linux" or threading.current_thread() is not threading.main_thread():
        return None
    try:
        started = int(Path("/proc/self/stat").read_text("ascii").rpartition(")")[2].split()[19])  # proc(5): starttime
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None
    return max(0.0, age)
