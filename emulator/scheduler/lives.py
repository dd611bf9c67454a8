"""From a slot to a container and back: started, watched to its end, killed. Every life ends, and says why."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from emulator.faults.boots import StillBorn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from emulator.containers.base import Container
    from emulator.scheduler.services import Services
    from emulator.scheduler.slot import Slot
    from emulator.state import FunctionRecord


class Lives:
    """The lives of one pool's containers. `gone` is called at the end of each, with what ended it."""

    def __init__(self, record: FunctionRecord, services: Services, gone: Callable[[Slot, str], None]) -> None:
        self._record = record
        self._services = services
        self._gone = gone

    def begin(self, slot: Slot) -> None:
        self._services.history.begun(slot.task_id, self._record, slot.created_at)
        slot.watcher = asyncio.create_task(self._live(slot))

    async def _live(self, slot: Slot) -> None:
        why, failed = "", True
        try:
            why, failed = await self._until_ended(slot)
        except Exception as error:  # whatever it is: nobody else would ever hear of it
            what = "could not be started" if slot.container is None else "was lost"
            why = f"Container {what}: {error or type(error).__name__}"
            self._say(why)
            self.kill(slot)
        finally:
            try:
                await self._services.launcher.release(slot.task_id)
            except Exception as error:
                self._say(f"what container {slot.task_id} had could not be released: {error or type(error).__name__}")
            finally:
                self._services.history.finished(slot.task_id, self._services.clock.time(), failed=failed)
                self._gone(slot, why)

    async def _until_ended(self, slot: Slot) -> tuple[str, bool]:
        """What ended it, and whether that was a failure."""
        # A task of its own, so that a start which hangs can be called off.
        slot.starting = asyncio.create_task(self._start(slot))
        if slot.doomed:
            slot.starting.cancel()
        try:
            slot.container = await slot.starting
        except asyncio.CancelledError:
            if not slot.doomed:
                raise
            return f"Container {slot.task_id} was ended before it had started", False
        self._services.history.started(slot.task_id, self._services.clock.time())
        if slot.doomed:
            slot.container.kill()
        ended = await slot.container.wait()
        why = f"Container {slot.task_id} ended with exit code {ended.code}"
        failed = bool(ended.code) and not slot.doomed
        if failed:  # in the words of Modal's own logs
            self._services.on_output(slot.task_id, "system", f"Runner failed with exit code: {ended.code}\n")
            if slot.state == "ready":
                self._say(why)
        elif slot.cut_short:
            self._services.on_output(slot.task_id, "system", "Runner terminated.\n")
        return why, failed or slot.boot_result is not None

    async def _start(self, slot: Slot) -> Container:
        fault = self._services.plans.boot(self._record)
        if fault is not None and fault.seconds:
            slot.held_back = True
            try:
                await self._services.clock.sleep(fault.seconds)
            finally:
                slot.held_back = False
        if fault is not None and fault.exit_code is not None:
            return StillBorn(slot.task_id, fault.exit_code)
        spec = await self._services.launcher.prepare(self._record, slot.task_id)
        return await self._services.runtime.start(spec, self._services.on_output)

    def kill(self, slot: Slot) -> None:
        """End a container now, or the start of one that is not there yet. Harmless when repeated."""
        first, slot.doomed = not slot.doomed, True
        slot.cut_short = slot.cut_short or bool(slot.active)
        if slot.container is not None:
            slot.container.kill()
        elif slot.starting is not None and first:
            slot.starting.cancel()

    async def ended(self, slots: Iterable[Slot], *, within: float) -> None:
        """Return when those containers have ended. After `within` seconds they are given up, and that is said."""
        watchers = {slot.watcher: slot.task_id for slot in slots if slot.watcher is not None}
        if not watchers:
            return
        try:
            async with self._services.clock.timeout(within):
                await asyncio.wait(watchers)
        except TimeoutError:
            left = [task_id for watcher, task_id in watchers.items() if not watcher.done()]
            self._say(f"these containers did not end within {within:g}s and are given up: {', '.join(left)}")
            for watcher in watchers:
                watcher.cancel()

    def _say(self, text: str) -> None:
        self._services.say(f"{self._record.tag}: {text}")
