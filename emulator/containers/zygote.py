"""Containers as forks of a warm process that has imported the client's runtime: the default on Linux."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from typing import TYPE_CHECKING

from emulator.containers.base import ContainerStartError
from emulator.containers.channel import Decoder, receive, send, send_own_life
from emulator.containers.guest_command import guest_command, guest_environment
from emulator.containers.runtime import SupervisedRuntime

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from emulator.containers.ends import Ends
    from emulator.containers.isolation import Isolation

_log = logging.getLogger("emulator.containers")


class Zygote:
    """One warm process."""

    def __init__(self, channel: socket.socket, process: asyncio.subprocess.Process) -> None:
        self._channel = channel
        self._process = process
        self.dead = False

    @classmethod
    async def warm(cls, how: str) -> Zygote:
        """Start one and wait until it is warm. Raises `ContainerStartError` when it cannot be."""
        channel, theirs = socket.socketpair()
        channel.setblocking(False)
        with theirs:
            try:
                process = await asyncio.create_subprocess_exec(
                    *guest_command("zygote", theirs.fileno(), how),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,
                    cwd="/",
                    env=guest_environment(os.environ),
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


class ZygoteSpawner:
    """Every init is a fork of one warm process, which is started with the first and anew when it has died."""

    def __init__(self) -> None:
        self._warming: asyncio.Task[Zygote] | None = None

    async def spawn(self, launch_file: Path, ends: Ends, isolation: Isolation) -> None:
        zygote = await self.warm(isolation)
        zygote.fork(launch_file, ends)

    async def warm(self, isolation: Isolation) -> Zygote:
        """The warm process, started if there is none."""
        task = self._warming
        if task is None or (task.done() and (task.cancelled() or task.exception() or task.result().dead)):
            # Before anything is awaited: who comes in the meantime waits for the same one.
            task = self._warming = asyncio.create_task(self._replace(task, isolation))
        return await asyncio.shield(task)

    async def _replace(self, old: asyncio.Task[Zygote] | None, isolation: Isolation) -> Zygote:
        if old is not None and not old.cancelled() and not old.exception():
            await old.result().close()
        return await Zygote.warm(isolation.how)

    async def close(self) -> None:
        task, self._warming = self._warming, None
        if task is None:
            return
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled() and not task.exception():
            await task.result().close()


class ZygoteRuntime(SupervisedRuntime):
    """A `ContainerRuntime` of forks."""

    def __init__(self, **options: Any) -> None:
        self._zygotes = ZygoteSpawner()
        super().__init__(self._zygotes, **options)
