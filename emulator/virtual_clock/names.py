"""The names under which Python code asks for time, while any container follows a virtual clock.

They are the process's: what stands behind them looks at which thread asks, and is the original for all others. What
code has imported before (`from time import sleep`) it keeps, and what asks in C (`datetime.now`) asks the machine.
"""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from emulator.virtual_clock.inside import Inside

_NANO = 1_000_000_000


class Names:
    """Replaced by the first who takes them, and put back by the last. `here`: the container that a thread is in."""

    def __init__(self, here: Callable[[], Inside | None]) -> None:
        self._here = here
        self._lock = threading.Lock()
        self._taken = 0
        self._replaced: list[tuple[Any, str, Any, Any]] = []

    def take(self) -> None:
        with self._lock:
            self._taken += 1
            if self._taken == 1:
                self._replace()

    def give_back(self) -> None:
        with self._lock:
            self._taken -= 1
            if not self._taken:
                for module, name, ours, original in self._replaced:
                    if getattr(module, name) is ours:  # else somebody has replaced it since, and will put back ours
                        setattr(module, name, original)
                self._replaced = []

    def _replace(self) -> None:
        count = time.perf_counter_ns
        began = count()
        inside: dict[str, Callable[[Inside], Any]] = {
            "time": lambda here: here.clock.time(),
            "time_ns": lambda here: round(here.clock.time() * _NANO),
            "monotonic": lambda here: here.clock.monotonic(),
            "monotonic_ns": lambda here: round(here.clock.monotonic() * _NANO),
            # What measures how long code takes: the time that it waits for, and the time that it takes.
            "perf_counter": lambda here: here.clock.monotonic() + (count() - began) / _NANO,
            "perf_counter_ns": lambda here: round(here.clock.monotonic() * _NANO) + count() - began,
        }
        for name, function in inside.items():
            self._put(time, name, function)
        self._put(time, "sleep", lambda here, seconds: here.sleep(seconds))
        for module in (asyncio, asyncio.events):
            self._put(module, "new_event_loop", lambda here: here.new_event_loop())

    def _put(self, module: Any, name: str, inside: Callable[..., Any]) -> None:
        original = getattr(module, name)

        def asked(*arguments: Any) -> Any:
            here = self._here()
            return original(*arguments) if here is None else inside(here, *arguments)

        asked.__name__, asked.__doc__ = name, original.__doc__
        self._replaced.append((module, name, asked, original))
        setattr(module, name, asked)
