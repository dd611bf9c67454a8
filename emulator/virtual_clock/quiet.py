"""Whether all is quiet: nothing happens any more unless time passes or somebody outside does something.

It is found out on the emulator's own loop, at a moment when nothing is ready there: then everything in the emulator
waits, and `Watched.busy` knows for what. Where containers are threads of this process, their requests come through
loops of theirs (the client's). Those are asked in turn whether anything is ready there. Nothing is, if in the meantime
nothing was sent to containers and none of their code was woken: who waits hears from nobody else.
"""

from __future__ import annotations

import concurrent.futures
from typing import TYPE_CHECKING, Protocol

from emulator.virtual_clock.waits import soon

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence
    from datetime import datetime

WITHIN = 30.0
"""Real seconds in which it has to become quiet."""
EXPLAINED_WITHIN = 5.0
"""Real seconds to find out where the code of what is busy is."""
FIRST_LOOK, LAST_LOOK = 0.0005, 0.01
"""Real seconds between two looks at what is busy: it may have begun a moment ago, or take long."""


class NotQuietError(TimeoutError):
    """It did not become quiet: `busy` has a line for each that still was."""

    def __init__(self, busy: Sequence[str], *, within: float, now: datetime) -> None:
        self.busy = list(busy)
        lines = "".join(f"\n  {line}" for line in self.busy)
        super().__init__(
            f"not quiet after {within:g} s of real time; the clock stands at {now:%F %T} UTC. Busy:{lines}"
        )


class Watched(Protocol):
    """What has to be quiet."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Its own."""

    def in_loop(self) -> bool:
        """Whether the caller runs on it."""

    def others(self) -> Sequence[asyncio.AbstractEventLoop]:
        """Loops of this process over which its containers speak to it. Called on its own loop."""

    def busy(self, *, regardless: bool, stacks: bool = False) -> list[str]:
        """What goes on, a line for each. Called on its own loop when nothing is ready there.

        `regardless`: of what containers do. `stacks`: with where their code is, which takes long to find out.
        """

    def traffic(self) -> int:
        """Counts what goes to and comes from its containers."""


def until_quiet(
    watched: Watched, changes: Callable[[], int], *, within: float, regardless: bool, now: Callable[[], datetime]
) -> None:
    """Block until all is quiet. `changes` counts how often code has been woken. Raises `NotQuietError`."""
    search = _Search(watched, changes, regardless=regardless)
    soon(watched.loop, search.look)
    try:
        search.found.result(within)
    except concurrent.futures.TimeoutError:
        search.over = True
        raise NotQuietError(_explained(watched, regardless) or search.why, within=within, now=now()) from None


def _explained(watched: Watched, regardless: bool) -> list[str]:
    found: concurrent.futures.Future[list[str]] = concurrent.futures.Future()

    def look() -> None:
        try:
            found.set_result(watched.busy(regardless=regardless, stacks=True))
        except Exception as error:
            found.set_exception(error)

    soon(watched.loop, look)
    try:
        return found.result(EXPLAINED_WITHIN)
    except Exception:  # what is known without it is told
        return []


class _Search:
    """Looks until it has `found` that all is quiet, or is `over`. Its methods run on the watched loop."""

    def __init__(self, watched: Watched, changes: Callable[[], int], *, regardless: bool) -> None:
        self.found: concurrent.futures.Future[None] = concurrent.futures.Future()
        self.why = ["the emulator's own loop, which does not come to an end with what it does"]
        self.over = False
        self._watched = watched
        self._changes = changes
        self._regardless = regardless
        self._pause = FIRST_LOOK

    def look(self) -> None:
        """Anew, from the beginning."""
        if self.over:
            return
        count = self._count()
        if ready(self._watched.loop):
            self._watched.loop.call_soon(self.look)
        elif (why := self._busy()) is None:
            self._ask(list(self._watched.others()), count)
        else:
            self._again(why)

    def _busy(self) -> list[str] | None:
        try:
            return self._watched.busy(regardless=self._regardless) or None
        except Exception as error:  # who waits would wait until the limit, and be told something else
            self.over = True
            self.found.set_exception(error)
            return []

    def _again(self, why: list[str]) -> None:
        self.why = why
        self._watched.loop.call_later(self._pause, self.look)
        self._pause = min(LAST_LOOK, self._pause * 1.5)

    def _count(self) -> tuple[int, int]:
        return self._watched.traffic(), self._changes()

    def _ask_here(self, others: list[asyncio.AbstractEventLoop], count: tuple[int, int]) -> None:
        """In a turn of its own: what another thread has a loop do is itself something that the loop has to read."""
        self._watched.loop.call_soon(lambda: self._ask(others, count))

    def _ask(self, others: list[asyncio.AbstractEventLoop], count: tuple[int, int]) -> None:
        """Ask the others in turn, and then once more here."""
        if self.over:
            return
        if others:
            first, *rest = others
            _when_idle(first, lambda: soon(self._watched.loop, lambda: self._ask_here(rest, count)))
        elif ready(self._watched.loop) or self._count() != count:
            self.look()
        elif (why := self._busy()) is not None:
            self._again(why)
        else:
            self.over = True
            self.found.set_result(None)


def _when_idle(loop: asyncio.AbstractEventLoop, then: Callable[[], None]) -> None:
    def look() -> None:
        if ready(loop):
            loop.call_soon(look)
        else:
            then()

    if loop.is_closed():
        then()
    else:
        soon(loop, look)


def ready(loop: asyncio.AbstractEventLoop) -> int:
    """Callbacks that are ready on a loop, of those of one turn; asked by the only one that is not counted.

    A loop takes what its sockets and timers bring when a turn begins, so none means that there is nothing else to do.
    """
    found: int = len(loop._ready)  # type: ignore[attr-defined]
    return found
