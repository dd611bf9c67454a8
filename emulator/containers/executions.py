"""Commands that run in a container beside its main process, as the emulator's end sees them."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import signal
import struct
import termios
from typing import TYPE_CHECKING, Any

from emulator.containers.base import CommandError, ContainerExit, ContainerStartError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from emulator.containers.base import Command

NOT_FOUND, NOT_RUNNABLE = 127, 126
"""What a shell answers for a command that is not there, and for one that cannot be run."""


class Execution:
    """A `Running`: its streams are the caller's from the start, so that nothing is lost."""

    def __init__(self, stdin: int, stdout: int, stderr: int | None, kill: Callable[[], None]) -> None:
        self.stdin, self.stdout, self.stderr = stdin, stdout, stderr
        self.kill = kill
        loop = asyncio.get_running_loop()
        self.started: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[ContainerExit] = loop.create_future()

    async def wait(self) -> ContainerExit:
        return await asyncio.shield(self.ended)

    def close(self) -> None:
        """Of one that never ran."""
        for descriptor in {self.stdin, self.stdout, self.stderr} - {None}:
            os.close(descriptor)  # type: ignore[arg-type]


class Executions:
    """Those of one container. `tell` sends its init a message, with descriptors that are then closed."""

    def __init__(self, tell: Callable[[dict[str, Any], Sequence[int]], None]) -> None:
        self._tell = tell
        self._running: dict[int, Execution] = {}
        self._count = 0

    async def start(self, command: Command) -> Execution:
        self._count += 1
        number = self._count

        def kill() -> None:
            if number in self._running:
                self._tell({"signal": int(signal.SIGKILL), "of": number}, ())

        theirs, execution = _terminal(command.terminal, kill) if command.terminal else _pipes(kill)
        self._running[number] = execution
        body = {
            "execute": number,
            "words": list(command.words),
            "environment": dict(command.environment),
            "workdir": command.workdir,
            "terminal": command.terminal is not None,
            "main": command.main,
        }
        self._tell(body, theirs)
        try:
            await asyncio.shield(execution.started)
        except asyncio.CancelledError:
            kill()  # if it comes to be: nobody will know of it
            execution.close()
            raise
        except (CommandError, ContainerStartError):
            execution.close()
            raise
        return execution

    def hear(self, body: dict[str, Any]) -> None:
        """What init says of one of them."""
        execution = self._running.get(body["execution"])
        if execution is None:
            return
        if "error" in body:
            del self._running[body["execution"]]
            code = NOT_FOUND if body["errno"] == errno.ENOENT else NOT_RUNNABLE
            _fail(execution.started, CommandError(body["error"], code))
        elif "code" in body:
            del self._running[body["execution"]]
            execution.ended.set_result(ContainerExit(body["code"]))
        elif not execution.started.done():
            execution.started.set_result(None)

    def end(self) -> None:
        """The container has ended, and all of them with it."""
        running, self._running = list(self._running.values()), {}
        for execution in running:
            _fail(execution.started, ContainerStartError("the container ended before the command had started"))
            if not execution.ended.done():
                execution.ended.set_result(ContainerExit(-signal.SIGKILL))


def _fail(future: asyncio.Future[None], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # a start that was cancelled asks for it no more


def _pipes(kill: Callable[[], None]) -> tuple[list[int], Execution]:
    """What init gets, and what stays here."""
    their_stdin, stdin = os.pipe()
    stdout, their_stdout = os.pipe()
    stderr, their_stderr = os.pipe()
    for descriptor in (stdin, stdout, stderr):
        os.set_blocking(descriptor, False)
    return [their_stdin, their_stdout, their_stderr], Execution(stdin, stdout, stderr, kill)


def _terminal(size: tuple[int, int], kill: Callable[[], None]) -> tuple[list[int], Execution]:
    """A terminal of that many rows and columns: whoever is at its other end writes to it and reads from it."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    os.set_blocking(master, False)
    return [slave], Execution(master, os.dup(master), None, kill)
