"""Containers as forks of a warm process that has imported the client's runtime: the default on Linux."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from emulator.containers.base import ContainerStartError
from emulator.containers.channel import Decoder, receive, send, send_own_life
from emulator.containers.guest_command import guest_command, guest_environment
from emulator.containers.runtime import SupervisedRuntime

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from emulator.containers.base import OwnPython
    from emulator.containers.ends import Ends
    from emulator.containers.isolation import Isolation

KEPT_WARM = 3
"""Warm processes of images' own environments that are kept while they have no containers: 50 MB each."""

_log = logging.getLogger("emulator.containers")


class Zygote:
    """One warm process."""

    def __init__(self, channel: socket.socket, process: asyncio.subprocess.Process) -> None:
        self._channel = channel
        self._process = process
        self.dead = False

    @classmethod
    async def warm(cls, how: str, python: OwnPython | None = None) -> Zygote:
        """Start one and wait until it is warm. Raises `ContainerStartError` when it cannot be."""
        channel, theirs = socket.socketpair()
        channel.setblocking(False)
        with theirs:
            try:
                process = await asyncio.create_subprocess_exec(
                    *guest_command("zygote", theirs.fileno(), how, python=python),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,
                    cwd="/",
                    env=guest_environment(os.environ, python),
                )
            except OSError as error:
                channel.close()
                raise ContainerStartError(f"no interpreter could be started: {error}") from error
        zygote = cls(channel, process)
        try:
            send_own_life(channel)
            await zygote._until_ready()
        except BaseException:
            await zygote.close()
            raise
        asyncio.get_running_loop().add_reader(channel, zygote._readable)
        return zygote

    def fork(self, launch_file: Path, ends: Ends) -> None:
        """Have it fork an init. Raises `ContainerStartError` when the warm process is gone."""
        try:
            send(self._channel, {"launch": str(launch_file)}, ends.given())
        except OSError as error:
            self.dead = True
            raise ContainerStartError(f"the warm process is gone ({error}): the next start makes another") from error

    async def close(self) -> None:
        """End it, warm or not yet."""
        asyncio.get_running_loop().remove_reader(self._channel)
        self._channel.close()
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    async def _until_ready(self) -> None:
        decoder = Decoder()
        while True:
            await _until_readable(self._channel)
            messages = receive(self._channel, decoder)
            if messages is None:
                code = await self._process.wait()
                raise ContainerStartError(f"the warm process ended with status {code} while importing modal")
            for message in messages:
                if "error" in message.body:
                    raise ContainerStartError(message.body["error"])
                if warning := message.body["warning"]:
                    _log.warning(warning)
                return

    def _readable(self) -> None:
        """It says nothing once it is warm: this is its end."""
        self.dead = True
        asyncio.get_running_loop().remove_reader(self._channel)
        _log.error("the warm process of containers has ended: the next container starts another")


async def _until_readable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(connection, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(connection)


@dataclass(eq=False)
class _Warmth:
    """The warm process of one environment: being started, there, or dead; and the containers that come of it."""

    task: asyncio.Task[Zygote]
    containers: int = 0

    @property
    def is_of_use(self) -> bool:
        task = self.task
        return not task.done() or not (task.cancelled() or task.exception() or task.result().dead)


class ZygoteSpawner:
    """Every init is a fork of a warm process, which is started with the first and anew when it has died.

    The emulator's own environment has one, and so has each environment of an image's own: their imports differ. Of the
    latter, those without containers are kept up to `KEPT_WARM`, the last used ones.
    """

    def __init__(self) -> None:
        self._warm: dict[OwnPython | None, _Warmth] = {}
        """The last used one last."""
        self._ending: set[asyncio.Task[None]] = set()

    async def spawn(self, launch_file: Path, ends: Ends, isolation: Isolation, python: OwnPython | None = None) -> None:
        warmth = self._warmth(isolation, python)
        warmth.containers += 1
        (await asyncio.shield(warmth.task)).fork(launch_file, ends)

    def ended(self, python: OwnPython | None) -> None:
        if (warmth := self._warm.get(python)) is not None:
            warmth.containers -= 1
        idle = [one for one, warmth in self._warm.items() if one is not None and warmth.containers <= 0]
        for one in idle[: max(0, len(idle) - KEPT_WARM)]:
            self._end(self._warm.pop(one).task)

    async def warm(self, isolation: Isolation) -> Zygote:
        """The warm process of the emulator's own environment, started if there is none."""
        return await asyncio.shield(self._warmth(isolation, None).task)

    def _warmth(self, isolation: Isolation, python: OwnPython | None) -> _Warmth:
        warmth = self._warm.pop(python, None)
        if warmth is None or not warmth.is_of_use:
            # Before anything is awaited: who comes in the meantime waits for the same one.
            old = warmth.task if warmth is not None else None
            task = asyncio.create_task(self._replace(old, isolation, python))
            warmth = _Warmth(task, warmth.containers if warmth is not None else 0)
        self._warm[python] = warmth
        return warmth

    async def _replace(
        self, old: asyncio.Task[Zygote] | None, isolation: Isolation, python: OwnPython | None
    ) -> Zygote:
        if old is not None and not old.cancelled() and not old.exception():
            await old.result().close()
        try:
            return await Zygote.warm(isolation.how, python)
        except ContainerStartError as error:
            if python is None:
                raise
            raise ContainerStartError(
                f"{error}. The image's packages come before those that the client needs: do they fit together?"
            ) from error

    def _end(self, task: asyncio.Task[Zygote]) -> None:
        ending = asyncio.create_task(_end(task))
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)

    async def close(self) -> None:
        for warmth in self._warm.values():
            self._end(warmth.task)
        self._warm.clear()
        await asyncio.gather(*self._ending, return_exceptions=True)


async def _end(task: asyncio.Task[Zygote]) -> None:
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled() and not task.exception():
        await task.result().close()


class ZygoteRuntime(SupervisedRuntime):
    """A `ContainerRuntime` of forks."""

    def __init__(self, **options: Any) -> None:
        self._zygotes = ZygoteSpawner()
        super().__init__(self._zygotes, **options)
