"""The names under which Python code asks what time it is: in a container that follows a virtual clock, they tell that.

Which container it is goes by the thread, not by the context: the client's requests run in their container's context, on
a loop of their own, and their time is real. What asks in C stays real too (`datetime.now`, `time.localtime()`), and so
does what code has imported by name before (`from time import time`).
"""

from __future__ import annotations

import queue
import threading
import time  # noqa: TID251 - what is exchanged
from typing import TYPE_CHECKING, Any

from emulator.virtual_clock.inside import Inside

if TYPE_CHECKING:
    from collections.abc import Callable

    from emulator.containers.thread.patching import Patches

_NANO = 1_000_000_000


def install(patches: Patches) -> None:
    count = time.perf_counter_ns
    told: dict[str, Callable[[Inside], Any]] = {
        "time": lambda inside: inside.clock.time(),
        "time_ns": lambda inside: round(inside.clock.time() * _NANO),
        "monotonic": lambda inside: inside.clock.monotonic(),
        "monotonic_ns": lambda inside: round(inside.clock.monotonic() * _NANO),
        # What measures how long code takes: the time that it waits for, and the time that it takes.
        "perf_counter": lambda inside: inside.clock.monotonic() + count() / _NANO,
        "perf_counter_ns": lambda inside: round(inside.clock.monotonic() * _NANO) + count(),
    }
    for name, tell in told.items():
        patches.put(time, name, _asked(getattr(time, name), tell))
    for module, name in ((queue, "time"), (threading, "_time")):  # their own names for `monotonic`
        patches.put(module, name, _asked(getattr(module, name), told["monotonic"]))


def _asked(original: Callable[[], Any], tell: Callable[[Inside], Any]) -> Callable[[], Any]:
    def asked() -> Any:
        inside = Inside.here()
        return original() if inside is None else tell(inside)

    return asked
