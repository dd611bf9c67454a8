"""A container that is a thread, from its start to its end."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
import traceback
from contextlib import nullcontext, suppress
from contextvars import Context
from typing import TYPE_CHECKING

from emulator.containers.base import CommandError, ContainerExit
from emulator.containers.compat import thread as client
from emulator.containers.dialing import connect
from emulator.containers.executions import NOT_RUNNABLE
from emulator.containers.thread import children
from emulator.containers.thread.environment import encoded
from emulator.containers.thread.identity import ContainerEnded, Identity, being
from emulator.containers.thread.log import ContainerLog
from emulator.containers.thread.signals import deliver
from emulator.containers.thread.streams import ContainerStream, route

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from emulator.clock import Clock
    from emulator.containers.base import Command, ContainerSpec, OnOutput, Running
    from emulator.virtual_clock.inside import Inside

INSTEAD = "use containers='zygote' for it"
"""The end of every message on what threads can not give."""
ABANDONED_AFTER = 1.0
"""Seconds, of real time, that a killed container's thread has to end before it is left to itself."""
THREAD_SECONDS = 0.2
"""That each thread which outlives its container has to note that it is to end."""


class ThreadContainer:
    """Implements `Container`. Made on the emulator's loop; `release` gives back what it occupied, once."""

    def __init__(
        self,
        spec: ContainerSpec,
        environment: dict[str, str],
        *,
        clock: Clock,
        on_output: OnOutput,
        release: Callable[[], Awaitable[None]],
    ) -> None:
        self._task_id = spec.task_id
        self._arguments = spec.arguments
        self._release = release
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[ContainerExit] = self._loop.create_future()
        self._log = log = ContainerLog(spec.task_id, self._loop, on_output)
        self._finishing: asyncio.Task[None] | None = None
        self._code: int | None = None
        """Once it is decided: of a container that was killed, or has come to its end."""
        self.identity = Identity(
            spec.task_id,
            encoded(environment),
            clock,
            stdout=ContainerStream(lambda data: log.write("stdout", data), lambda: log.descriptor("stdout")),
            stderr=ContainerStream(lambda data: log.write("stderr", data), lambda: log.descriptor("stderr")),
            descriptor=log.descriptor,
            on_signal=self._end_by,
        )
        self._thread = threading.Thread(target=self._run, name=f"container {spec.task_id}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def task_id(self) -> str:
        return self._task_id

    @property
    def pid(self) -> int:
        return os.getpid()

    @property
    def inside(self) -> Inside | None:
        """A look at its code, where it follows a virtual clock."""
        return self.identity.inside

    async def wait(self) -> ContainerExit:
        return await asyncio.shield(self._ended)

    def terminate(self) -> None:
        deliver(self.identity, signal.SIGTERM)

    def interrupt(self) -> None:
        deliver(self.identity, signal.SIGINT)

    def kill(self) -> None:
        self._end_by(signal.SIGKILL)

    def read_output(self) -> None:
        if not self._ended.done():
            self._log.flush()

    async def execute(self, _command: Command) -> Running:
        raise CommandError(f"no command can be run in a container that is a thread: {INSTEAD}", NOT_RUNNABLE)

    async def dial(self, port: int) -> socket.socket:
        if self._ended.done():
            raise ConnectionRefusedError(f"container {self._task_id} has ended")
        return await connect(socket.socket(socket.AF_INET, socket.SOCK_STREAM), port)

    # In the container's threads

    def _run(self) -> None:
        with being(self.identity), self.inside.thread() if self.inside is not None else nullcontext():
            self.identity.main_thread = threading.get_ident()
            code = 1
            try:
                route()
                code = client.run_container(self._arguments)
            except ContainerEnded:
                pass  # what killed it has decided its exit code
            except SystemExit as left:
                code = left.code if isinstance(left.code, int) else int(left.code is not None)
            except BaseException:
                self._print_traceback()
            while not self._left(code):
                pass

    def _print_traceback(self) -> None:
        if not self.identity.dead:
            traceback.print_exc(file=self.identity.stderr)

    def _left(self, code: int) -> bool:
        """Do what an interpreter does at its end. False when that was interrupted by the container's being killed."""
        identity = self.identity
        try:
            for stream in (identity.stdout, identity.stderr):
                stream.flush()
            for executor in list(identity.executors):
                executor.shutdown(wait=False)
            if not identity.dead:
                for thread in self._others():
                    if thread in identity.awaited:
                        thread.join()
            self._end_threads()
            with suppress(RuntimeError):  # the emulator has stopped meanwhile: this thread had been abandoned
                self._loop.call_soon_threadsafe(self._finish, code, context=Context())
        except ContainerEnded:
            return False
        return True

    def _others(self) -> list[threading.Thread]:
        here = threading.current_thread()
        while True:
            try:
                threads = list(self.identity.threads)
            except RuntimeError:  # one was started meanwhile
                continue
            return [thread for thread in threads if thread.is_alive() and thread is not here]

    def _end_threads(self) -> None:
        """What the process's end would have ended."""
        others = self._others()
        self.identity.interrupts.end([thread.ident for thread in others if thread.ident], ContainerEnded)
        for thread in others:
            thread.join(THREAD_SECONDS)

    # From any thread

    def _end_by(self, number: int) -> None:
        """Kill it: by that signal or, of a number that is not positive, with an exit status."""
        identity = self.identity
        if identity.dead or self._ended.done():
            return
        identity.dead = True
        self._log.cut()
        self._code = -number
        client.cut_off(identity)
        threads = [self._thread, *self._others()]
        identity.interrupts.end([thread.ident for thread in threads if thread.ident], ContainerEnded)
        self._loop.call_soon_threadsafe(self._give_time, context=Context())

    # On the emulator's loop

    def _give_time(self) -> None:
        self._loop.call_later(ABANDONED_AFTER, self._abandon)

    def _abandon(self) -> None:
        if self._finishing is None:
            self._log.say(
                f"Container {self._task_id} was killed, but its thread does not stop (it blocks in C code): it is "
                f"abandoned, and what it still does is ignored\n"
            )
            self._finish(0)

    def _finish(self, code: int) -> None:
        if self._finishing is None:
            if self._code is None:
                self._code = code
            self._finishing = self._loop.create_task(self._close())

    async def _close(self) -> None:
        try:
            await asyncio.to_thread(children.end, self.identity)
            self._log.close()
            self.identity.own.clear()
            await self._release()
        finally:
            self._ended.set_result(ContainerExit(self._code or 0))
