"""What goes on in an emulator at this moment: what a virtual clock waits for before time goes on.

Whatever waits for a moment to come is not busy, and neither is a container that has asked for work where there is none.
The code in a container whose time is real is busy as long as it works on anything; a container that follows the clock
tells whether its code only waits (`HasInside`).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from emulator.scheduler.server_pool import ServerPool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from emulator.ingress.moving import Moving
    from emulator.protocol.grpc import Traffic
    from emulator.scheduler.calls import Calls
    from emulator.scheduler.pool import Pool
    from emulator.scheduler.scheduler import Scheduler
    from emulator.scheduler.slot import Slot
    from emulator.state import State


class Insight(Protocol):
    """A look at the code of a container that follows the clock: see `virtual_clock.inside.Inside`."""

    def at_rest(self, *, held: int, own_ports: frozenset[int]) -> bool: ...

    def stacks(self, own_ports: frozenset[int]) -> list[str]: ...


@runtime_checkable
class HasInside(Protocol):
    """A container that may follow the clock."""

    @property
    def inside(self) -> Insight | None: ...


@runtime_checkable
class HasLoops(Protocol):
    """A runtime whose containers speak to the emulator over event loops of this process."""

    def loops(self) -> Sequence[asyncio.AbstractEventLoop]: ...


class Busy:
    """One emulator as its virtual clock sees it: `virtual_clock.quiet.Watched`. Made on the emulator's loop."""

    def __init__(
        self,
        *,
        state: State,
        scheduler: Scheduler,
        calls: Calls,
        moving: Moving,
        runtime: object,
        traffic: Traffic,
        own_ports: Callable[[], frozenset[int]],
        beside: Callable[[], list[str]] = list,
    ) -> None:
        """`beside` tells what goes on beside functions' containers."""
        self.loop = asyncio.get_running_loop()
        self._state = state
        self._scheduler = scheduler
        self._calls = calls
        self._moving = moving
        self._runtime = runtime
        self._traffic = traffic
        self._own_ports = own_ports
        self._beside = beside
        self._in_threads = 0
        self.loop.run_in_executor = self._counted(self.loop.run_in_executor)  # type: ignore[method-assign, assignment]

    def _counted(self, run: Callable[..., asyncio.Future[Any]]) -> Callable[..., asyncio.Future[Any]]:
        """What the loop has given to other threads is under way, though nothing is ready on the loop."""

        def run_in_executor(*arguments: Any) -> asyncio.Future[Any]:
            future = run(*arguments)
            self._in_threads += 1
            future.add_done_callback(done)
            return future

        def done(_: asyncio.Future[Any]) -> None:
            self._in_threads -= 1

        return run_in_executor

    def in_loop(self) -> bool:
        try:
            return asyncio.get_running_loop() is self.loop
        except RuntimeError:
            return False

    def others(self) -> Sequence[asyncio.AbstractEventLoop]:
        return self._runtime.loops() if isinstance(self._runtime, HasLoops) else ()

    def traffic(self) -> int:
        return self._traffic.count

    def busy(self, *, regardless: bool, stacks: bool = False) -> list[str]:
        lines = [
            f"app {app.name or app.description} is being published or stopped"
            for app in self._state.apps.values()
            if app.publishing.locked()
        ]
        if self._in_threads:
            lines.append(f"the emulator's work on files ({self._in_threads})")
        if self._calls.handing_out:
            lines.append(f"outputs that are about to be handed out ({self._calls.handing_out})")
        if not regardless:
            lines += self._moving.lines()
            lines += self._beside()
            lines += (line for pool, slot in self._scheduler.slots() for line in self._slot(pool, slot, stacks))
        return lines

    def _slot(self, pool: Pool, slot: Slot, stacks: bool) -> Iterator[str]:
        doing = what_it_does(pool, slot)
        if not doing:
            return
        inside = slot.container.inside if isinstance(slot.container, HasInside) else None
        ports = self._own_ports()
        waits = not slot.doomed and not is_to_ask(pool, slot)
        if inside is not None and waits and inside.at_rest(held=slot.held, own_ports=ports):
            return
        app = self._state.apps.get(pool.record.app_id)
        owner = (app.name or app.description) if app is not None else "?"
        yield f"container {slot.task_id} of {owner}/{pool.record.tag.removesuffix('.*')} {doing}"
        if inside is not None and stacks:
            yield from (f"    {line}" for line in inside.stacks(ports))


def what_it_does(pool: Pool, slot: Slot) -> str:
    """What goes on in a container as far as the emulator has told it; empty where it waits to be told more."""
    if slot.doomed:
        return "is being ended"
    if slot.state == "starting":
        return "" if slot.held_back else "boots"
    if slot.attempts:
        items = ", ".join(
            f"{attempt.item.input_id} of {attempt.item.call.call_id}" for attempt in slot.attempts.values()
        )
        return f"works on {items}"
    if slot.state == "draining":
        return "" if slot.requests else "leaves"
    if isinstance(pool, ServerPool) or slot.polling:
        return ""
    return "is about to ask for an input"


def is_to_ask(pool: Pool, slot: Slot) -> bool:
    """Whether a container that works on some inputs at once takes more, and has not asked for them yet."""
    definition = pool.record.definition
    room = (definition.target_concurrent_inputs or definition.max_concurrent_inputs) - slot.active
    return slot.state == "ready" and room > 0 and not slot.polling and pool.work.pending > 0
