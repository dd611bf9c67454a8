"""The life of the emulator's parts: opened in order, and closed in the other."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from emulator.containers.base import ContainerStartError
from emulator.parts import Parts
from emulator.virtual_clock import VirtualClock

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from emulator.options import Options

STOP_LIMIT = 20.0
"""Seconds that each part has to close."""
TOLD_AFTER = 1.0
"""Seconds of waiting for containers to leave before that is said."""


@runtime_checkable
class Warmable(Protocol):
    """A runtime that has something to get ready before the first container."""

    async def warm(self) -> None: ...


@runtime_checkable
class Openable(Protocol):
    """A runtime that has to be open before anybody uses the emulator."""

    async def open(self) -> None: ...


class Core(Parts):
    """Everything between `start` and `stop`, on the loop that calls them."""

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._tasks: list[asyncio.Task[None]] = []
        self._hurried = False

    async def start(self) -> None:
        """Open every port, and serve what is kept.

        Raises `OSError` or `PortTaken` when a port that was asked for is in use.
        """
        try:
            if isinstance(self._runtime, Openable):
                await self._runtime.open()
            self.aws.start()
            await self._blob_server.start()
            await self.ingress.start(self.options.ingress_port)
            await self._sandboxing.start()
            if self._kept is not None:
                self._kept.watch(self.ingress, aws_port=self.aws.port, web_for=self.options.web_for)
                await self._kept.restore(self._publisher, self.scheduler)
            await self._control_plane.start(self._listener)
        except BaseException:
            await self.stop()
            raise
        if isinstance(self.options.clock, VirtualClock):
            self.options.clock.watch(self._busy())
        self._tasks.append(asyncio.create_task(self._apps.watch_heartbeats()))
        self._tasks.append(asyncio.create_task(self.scheduler.timers.keep()))
        self._tasks.append(asyncio.create_task(self._warm()))

    async def stop(self) -> None:
        """End every container and close everything. Harmless when repeated.

        What fails to close keeps nothing else from it, and is raised in the end; what hangs is given up, which is said.
        """
        in_order = {
            "its background": self._end_tasks,
            "the ingress": self.ingress.close,
            "its Sandboxes": self._sandboxing.close,
            "the scheduler": self._close_scheduler,
            "the runtime": self._runtime.close,
            "what is built": self._images.close,
            "the containers' sockets": self._launcher.close,
            "the control plane": self._control_plane.close,
            "the blob server": self._blob_server.close,
            "S3 and DynamoDB": lambda: asyncio.to_thread(self.aws.close),
            "its folder": lambda: asyncio.to_thread(self._run_folder.close),
            "what is kept": self._close_kept,
        }
        async with AsyncExitStack() as closing:
            closing.callback(self._listener.close)
            if isinstance(self.options.clock, VirtualClock):  # nobody turns it any more
                closing.callback(asyncio.create_task(self.options.clock.flow()).cancel)
            for name, close in reversed(in_order.items()):
                closing.push_async_callback(self._close, name, close)

    async def _close_kept(self) -> None:
        if self._kept is not None:
            self._kept.close()

    def hurry(self) -> None:
        """Wait no longer for containers that are asked to leave: kill them."""
        self._hurried = True
        self.scheduler.hurry()

    async def _close_scheduler(self) -> None:
        grace = 0.0 if self._hurried else self.options.exit_grace
        patience = asyncio.create_task(self._tell_patience(grace)) if grace > TOLD_AFTER else None
        try:
            await self.scheduler.close(grace=grace)
        finally:
            if patience is not None:
                patience.cancel()

    async def _tell_patience(self, grace: float) -> None:
        await self.options.clock.outside.sleep(TOLD_AFTER)
        names = sorted({pool.record.tag for pool, _ in self.scheduler.slots()})
        if names:
            self.say(f"stopping: containers of {', '.join(names)} have {grace:g}s to leave (Ctrl-C again: kill them)")

    async def _close(self, name: str, close: Callable[[], Awaitable[None]]) -> None:
        limit = STOP_LIMIT + (self.options.exit_grace if close == self._close_scheduler else 0.0)
        try:
            async with self.options.clock.outside.timeout(limit):
                await close()
        except TimeoutError:
            self.say(f"stopping: {name} did not close within {limit:g}s and is given up")

    async def _end_tasks(self) -> None:
        await self._apps.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _warm(self) -> None:
        if isinstance(self._runtime, Warmable):
            try:
                await self._runtime.warm()
            except ContainerStartError as error:
                self.say(f"containers cannot be started: {error}")
