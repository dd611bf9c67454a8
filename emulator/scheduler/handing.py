"""Inputs handed to the containers that ask for them: one at a time, or a batch."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from emulator.clock import Clock
    from emulator.scheduler.calls import Input
    from emulator.scheduler.slot import Slot
    from emulator.scheduler.work import Work


class Handing:
    """Between one pool's work and its containers' long polls."""

    def __init__(self, *, work: Work, clock: Clock, changed: Callable[[], None]) -> None:
        self._work = work
        self._clock = clock
        self._changed = changed

    def wake(self, slots: Iterable[Slot]) -> None:
        """Wake as many waiting containers as there are inputs."""
        if not self._work.pending:
            return
        waiting = [slot for slot in slots if slot.polling]
        # The busiest first, so that the others become idle for long enough to leave.
        waiting.sort(key=lambda slot: (-slot.active, -(slot.idle_since or 0.0)))
        for slot in waiting[: self._work.pending]:
            slot.changed.notify()

    async def next_inputs(self, slot: Slot, *, batch: int, linger: float) -> list[Input] | None:
        """The next input, or up to `batch` of them, for a container that asks; `None` tells it to leave."""
        slot.polling = True
        try:
            first = await self._first(slot)
            if first is None:
                return None
            taken = [first]
            if batch > 1:
                try:
                    await self._fill_batch(slot, taken, batch, linger)
                except asyncio.CancelledError:
                    self._work.put_back(slot, [item.input_id for item in taken])
                    raise
            return taken
        finally:
            slot.polling = False
            self._changed()

    async def _first(self, slot: Slot) -> Input | None:
        while True:
            if slot.state != "ready" or slot.doomed:
                return None
            if (item := self._work.take(slot)) is not None:
                return item
            await slot.changed.wait()

    async def _fill_batch(self, slot: Slot, taken: list[Input], size: int, linger: float) -> None:
        try:
            async with self._clock.timeout(linger):
                while len(taken) < size:
                    if (item := self._work.take(slot)) is not None:
                        taken.append(item)
                    else:
                        await slot.changed.wait()
        except TimeoutError:
            pass
