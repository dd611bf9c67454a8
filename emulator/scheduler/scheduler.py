"""All pools: finds the one that a function or a container belongs to, and creates calls."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

from grpclib import GRPCError, Status
from modal_proto import api_pb2

from emulator.scheduler.leaving import EXIT_GRACE
from emulator.scheduler.pool import STOPPED, Pool
from emulator.scheduler.server_pool import ServerPool
from emulator.scheduler.timers import Timers

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from emulator.scheduler.calls import Call, Input
    from emulator.scheduler.history import History
    from emulator.scheduler.services import Services
    from emulator.scheduler.slot import Slot
    from emulator.signals import Signal
    from emulator.state import App, FunctionRecord

EMULATOR_STOPPED = api_pb2.GenericResult(
    status=api_pb2.GenericResult.GENERIC_STATUS_TERMINATED, exception="The emulator was stopped"
)


class Scheduler:
    """Owns the pools. A pool exists from a function's publication until its app is stopped."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._pools: dict[str, Pool] = {}
        self._closing = False
        self._dormant: dict[str, FunctionRecord] = {}
        """Published functions whose pool had nothing to do: it is made anew when it is asked for."""
        self.timers = Timers(services.clock, self._run_scheduled, services.say)

    @property
    def history(self) -> History:
        return self._services.history

    @property
    def pools(self) -> list[Pool]:
        return list(self._pools.values())

    def pool(self, function_id: str) -> Pool | None:
        """The pool of a function that is published and whose app runs."""
        if (record := self._dormant.pop(function_id, None)) is not None:
            self._open(record)
        return self._pools.get(function_id)

    def _open(self, record: FunctionRecord) -> Pool:
        kind = ServerPool if record.definition.is_server else Pool
        pool = self._pools[record.function_id] = kind(record, self._services, self._retired)
        pool.start()
        return pool

    def _retired(self, pool: Pool) -> None:
        del self._pools[pool.record.function_id]
        self._dormant[pool.record.function_id] = pool.record

    def server_pool(self, function_id: str) -> ServerPool | None:
        """The same, of a Server."""
        pool = self.pool(function_id)
        return pool if isinstance(pool, ServerPool) else None

    def published(self, record: FunctionRecord) -> None:
        """A function's new definition is in force, with its own autoscaler settings and no others."""
        record.overrides.Clear()
        if self._closing:
            raise GRPCError(Status.FAILED_PRECONDITION, "The emulator is stopping")
        (self.pool(record.function_id) or self._open(record)).published()

    def find(self, task_id: str) -> tuple[Pool, Slot] | None:
        return self._services.places.get(task_id)

    @contextmanager
    def holding(self, task_id: str) -> Iterator[None]:
        """A request of that container (or of nobody's, for an empty id) waits for others while the context is open."""
        place = self.find(task_id) if task_id else None
        if place is None:
            yield
            return
        place[1].held += 1
        try:
            yield
        finally:
            place[1].held -= 1

    def slots(self, app_id: str | None = None) -> Iterator[tuple[Pool, Slot]]:
        for pool in self.pools:
            if app_id is None or pool.record.app_id == app_id:
                for slot in list(pool.slots.values()):
                    yield pool, slot

    def submit(self, call: Call, payload: api_pb2.FunctionInput, idx: int) -> Input:
        """Add an input to a call and queue it."""
        item = self._services.calls.add_input(call, payload, idx)
        pool = self.pool(call.function_id)
        if pool is None:
            self._services.calls.finish(item, api_pb2.FunctionGetOutputsItem(result=STOPPED))
        else:
            pool.work.enqueue(item)
        return item

    def _run_scheduled(self, record: FunctionRecord) -> None:
        """As a `.spawn()` without arguments, that nobody waits for."""
        call = self._services.calls.create(record.function_id, invocation=api_pb2.FUNCTION_CALL_INVOCATION_TYPE_ASYNC)
        self.submit(call, api_pb2.FunctionInput(data_format=api_pb2.DATA_FORMAT_PICKLE), 0)

    def cancel(self, call: Call, *, terminate: bool = False) -> None:
        """Cancel every unfinished input of a call, and the calls that its running inputs have made."""
        call.cancelled = True
        for item in list(call.inputs.values()):
            if item.done:
                continue
            children = self._services.calls.children(item.input_id)
            if (pool := self.pool(call.function_id)) is not None:
                pool.cancel(item, terminate=terminate)
            for child in children:
                self.cancel(child, terminate=terminate)
        self._services.calls.taken(call)

    def busy(self, app_id: str) -> bool:
        """Whether anything of an app waits, is worked on, or is to be tried again."""
        return any(pool.busy for pool in self.pools if pool.record.app_id == app_id)

    @property
    def changed(self) -> Signal:
        """Notified whenever anything about a pool has changed."""
        return self._services.changed

    async def stop_app(self, app: App, *, grace: float = EXIT_GRACE) -> None:
        """End every container of an app, and its schedules."""
        self.timers.drop(app.function_ids.values())
        for record in [record for record in self._dormant.values() if record.app_id == app.app_id]:
            del self._dormant[record.function_id]
        await self._close([pool for pool in self.pools if pool.record.app_id == app.app_id], grace)

    def forget_calls(self, function_ids: Collection[str]) -> None:
        """The calls of functions that have ended need not be kept for long."""
        self._services.calls.orphaned(frozenset(function_ids))

    async def remove(self, record: FunctionRecord) -> None:
        """A function that is no longer part of its app."""
        self.timers.drop([record.function_id])
        self._dormant.pop(record.function_id, None)
        if (pool := self._pools.get(record.function_id)) is not None:
            await self._close([pool], EXIT_GRACE)

    async def close(self, *, grace: float = 0.0) -> None:
        """End every container of every app; those that have not left after `grace` seconds are killed."""
        self._closing = True
        self._dormant.clear()
        await self._close(self.pools, grace, EMULATOR_STOPPED)

    def hurry(self) -> None:
        """Kill what is still there."""
        for pool, slot in self.slots():
            pool.kill(slot)

    async def _close(self, pools: list[Pool], grace: float, told: api_pb2.GenericResult = STOPPED) -> None:
        await asyncio.gather(*(pool.close(grace=grace, told=told) for pool in pools))
        for pool in pools:
            self._pools.pop(pool.record.function_id, None)
