"""A command in a container as those who started it see it: its streams, its end, and how long it may take."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from typing import TYPE_CHECKING, Literal

from emulator.containers.base import CommandError, ContainerStartError
from emulator.sandboxes.streams import KEPT, Pump, Stdin, StdinClosed, Transcript

if TYPE_CHECKING:
    from collections.abc import Callable

    from emulator.clock import Clock
    from emulator.containers.base import Command, Container, Running

FINISHED_KEPT = 200
"""Commands that have ended, for whoever asks about them afterwards."""
BYTES_KEPT = 256 << 20
"""Of what those have written."""
READER_AWAITED, READ_WITHIN = 0.1, 5.0
"""Seconds for which the end of a command is held back: for somebody to read what it wrote, and to have read it."""
TOLD_LATE = 1.0
"""Seconds after which the end of a command that ran out of time is told: its client notices by itself, and says so."""


def _unheard(_stream: Literal["stdout", "stderr"], _data: bytes) -> None:
    """Nobody else wants to know."""


class LiveCommand:
    """One command. `heard` is called with what it writes."""

    def __init__(
        self,
        *,
        heard: Callable[[Literal["stdout", "stderr"], bytes], None] = _unheard,
        keep_stdout: bool = True,
        keep_stderr: bool = True,
    ) -> None:
        self.stdout = Transcript(KEPT if keep_stdout else 0)
        self.stderr = Transcript(KEPT if keep_stderr else 0)
        self.stdin: Stdin | None = None
        self.code: int | None = None
        """As `subprocess` has it, once it has ended."""
        self.lost = ""
        """Why it never ran: its container had ended."""
        self._heard = heard
        self._running: Running | None = None
        self._pumps: list[Pump] = []
        loop = asyncio.get_running_loop()
        self._started: asyncio.Future[None] = loop.create_future()
        self._ended: asyncio.Future[int] = loop.create_future()

    async def run(self, container: Container, command: Command) -> None:
        """Run it to its end. One that can not be run says so on stderr, and has a shell's status for that.

        Raises `ContainerStartError` where the container has ended.
        """
        try:
            self._running = running = await container.execute(command)
        except CommandError as error:
            message = f"{error}\n".encode()
            self.stderr.add(message)
            self._heard("stderr", message)
            self._end(error.code)
            return
        except BaseException as error:
            self.lost = str(error)
            self._end(-9)
            raise
        self._pumps.append(Pump(running.stdout, self.stdout, lambda data: self._heard("stdout", data)))
        if running.stderr is None:
            self.stderr.finish()
        else:
            self._pumps.append(Pump(running.stderr, self.stderr, lambda data: self._heard("stderr", data)))
        self.stdin = Stdin(running.stdin, terminal=command.terminal is not None)
        self._started.set_result(None)
        try:
            self._end((await running.wait()).code)
        except BaseException:
            running.kill()
            self._end(-9)
            raise

    def _end(self, code: int) -> None:
        for pump in self._pumps:
            pump.command_ended()
        self.stdout.finish()
        self.stderr.finish()
        if self.stdin is not None:
            self.stdin.end()
        self.code = code
        for future in (self._started, self._ended):
            if not future.done():
                future.set_result(code)  # type: ignore[arg-type]

    def close(self) -> None:
        """The container is gone, and nothing that it had left behind writes any more."""
        if self.code is None:
            self._end(-9)
        for pump in self._pumps:
            pump.close()

    async def started(self) -> None:
        """Return when it runs, or never will."""
        await asyncio.shield(self._started)

    async def wait(self) -> int:
        return await asyncio.shield(self._ended)

    async def write(self, data: bytes, *, offset: int | None = None, eof: bool = False) -> None:
        """Give it something to read. Raises as `Stdin.write`."""
        await self.started()
        if self.stdin is None:
            raise StdinClosed("the command has ended")
        await self.stdin.write(data, offset=offset, eof=eof)

    @property
    def size(self) -> int:
        """Bytes that are kept of what it has written."""
        return sum(stream.end - stream.start for stream in (self.stdout, self.stderr))

    def kill(self) -> None:
        if self._running is not None and self.code is None:
            self._running.kill()


class Exec:
    """A command that a client runs in a container beside what runs there."""

    def __init__(self, command: LiveCommand, *, timeout: float | None, clock: Clock) -> None:
        self.command = command
        self._timeout = timeout
        self._clock = clock
        self._told = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    async def run(self, container: Container, command: Command) -> None:
        """Run it to its end, or until its time is over."""
        ended = asyncio.ensure_future(self.command.run(container, command))
        try:
            async with self._clock.timeout(self._timeout):
                await asyncio.shield(ended)
        except TimeoutError:
            await self.command.started()
            self.command.kill()
            await ended
            await self._clock.outside.sleep(TOLD_LATE)
        except ContainerStartError:
            pass  # as its `lost` says
        finally:
            if not ended.done():
                ended.cancel()
            self._told.set()

    @property
    def told(self) -> bool:
        """Whether its end is to be known."""
        return self._told.is_set()

    async def wait(self) -> int:
        """Its code, once its end is to be known, and what it has written has been read by those who read along.

        A client that prints the output ends with the command: what comes later it would not print any more.
        """
        await self._told.wait()
        for stream in (self.command.stdout, self.command.stderr):
            await self._within(READER_AWAITED, stream, lambda stream: stream.awaits_reader)
            await self._within(READ_WITHIN, stream, lambda stream: stream.being_read)
        return await self.command.wait()

    async def _within(self, seconds: float, stream: Transcript, holds: Callable[[Transcript], bool]) -> None:
        with contextlib.suppress(TimeoutError):
            async with self._clock.outside.timeout(seconds):
                while holds(stream):
                    await stream.changed.wait()


class Execs:
    """Those of all containers, by container and by the id that their client gave them."""

    def __init__(self) -> None:
        self._by_id: OrderedDict[tuple[str, str], Exec] = OrderedDict()

    def get(self, task_id: str, exec_id: str) -> Exec | None:
        return self._by_id.get((task_id, exec_id))

    def add(self, task_id: str, exec_id: str, made: Exec) -> None:
        self._by_id[task_id, exec_id] = made

    def ended(self, task_id: str, exec_id: str) -> None:
        """Keep it among the last that have ended."""
        self._by_id.move_to_end((task_id, exec_id))
        finished = [key for key, one in self._by_id.items() if one.told]
        size = 0
        for count, key in enumerate(reversed(finished)):
            size += self._by_id[key].command.size
            if count and (count >= FINISHED_KEPT or size > BYTES_KEPT):
                self._by_id.pop(key).command.close()

    def close_task(self, task_id: str) -> None:
        """A container has ended."""
        for (owner, _), one in self._by_id.items():
            if owner == task_id:
                one.command.close()

    async def close(self) -> None:
        tasks = [one.task for one in self._by_id.values() if one.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for one in self._by_id.values():
            one.command.close()
