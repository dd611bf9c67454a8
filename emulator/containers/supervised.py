"""The emulator's end of a container that has an init of its own (see `guest.init`): both runtimes hand these out."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emulator.containers.base import ContainerExit, ContainerStartError
from emulator.containers.channel import Decoder, Message, receive
from emulator.containers.dialing import connect
from emulator.containers.ends import Ends, Outbox, Output
from emulator.containers.executions import Executions
from emulator.containers.forward import serve_way_out
from emulator.containers.views import ShownViews

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from emulator.containers.base import Command, OnOutput, Running, Stream

_READY_SOCKETS = 4

_log = logging.getLogger("emulator.containers")


class SupervisedContainer:
    """A `Container` whose init is at the other end of `ends`. `release` gives back what it occupied, once.

    `private_network`: it has one of its own. `fixed_ports` are those that it holds on this machine's network.
    `upstream` is this machine's own proxy.
    """

    def __init__(
        self,
        task_id: str,
        ends: Ends,
        on_output: OnOutput,
        release: Callable[[], Awaitable[None]],
        *,
        private_network: bool = False,
        fixed_ports: frozenset[int] = frozenset(),
        upstream: tuple[str, int] | None = None,
    ) -> None:
        self._task_id = task_id
        self._control = ends.control
        self._release = release
        self._loop = asyncio.get_running_loop()
        self._started: asyncio.Future[None] = self._loop.create_future()
        self._ended: asyncio.Future[ContainerExit] = self._loop.create_future()
        self._decoder = Decoder()
        self._outbox = Outbox(self._control)
        self._executions = Executions(self._outbox.put)
        self.views = ShownViews(self._outbox.put)
        self._code: int | None = None
        self._outputs = [
            Output(descriptor, self._writer(stream, on_output))
            for stream, descriptor in (("stdout", ends.stdout), ("stderr", ends.stderr))
        ]
        self._private_network = private_network
        self.fixed_ports = fixed_ports
        self._upstream = upstream
        self._pid = 0
        self._sockets: asyncio.Queue[socket.socket | None] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop.add_reader(self._control, self._readable)

    @property
    def task_id(self) -> str:
        return self._task_id

    @property
    def pid(self) -> int:
        return self._pid

    async def started(self) -> None:
        """Return when the main process exists. Raises `ContainerStartError`, having cleaned up, when it never will."""
        try:
            await asyncio.shield(self._started)
        except asyncio.CancelledError:
            self.kill()
            raise
        except ContainerStartError:
            self.kill()
            await self.wait()
            raise

    async def wait(self) -> ContainerExit:
        return await asyncio.shield(self._ended)

    def terminate(self) -> None:
        self._outbox.put({"signal": int(signal.SIGTERM)})

    def read_output(self) -> None:
        if not self._ended.done() and self._control.fileno() >= 0:
            for output in self._outputs:
                output.read()

    def interrupt(self) -> None:
        self._outbox.put({"signal": int(signal.SIGINT)})

    def kill(self) -> None:
        self._outbox.put({"kill": True})

    async def execute(self, command: Command) -> Running:
        if self._ended.done() or self._control.fileno() < 0:
            raise ContainerStartError(f"container {self._task_id} has ended")
        return await self._executions.start(command)

    async def dial(self, port: int) -> socket.socket:
        return await connect(await self._socket(), port)

    async def _socket(self) -> socket.socket:
        """A socket of the container's network. Some are kept ready, since making one takes a message there and back."""
        if not self._private_network:
            return socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if self._ended.done():
            raise ConnectionRefusedError(f"container {self._task_id} has ended")
        self._outbox.put({"sockets": 1})
        made = await self._sockets.get()
        if made is None:
            self._sockets.put_nowait(None)
            raise ConnectionRefusedError(f"container {self._task_id} has ended")
        return made

    def _begin(self, message: Message) -> None:
        """Init has made the main process: learn its number here."""
        self._pid = _pid_here(message.fds[0]) if message.fds else message.body["started"]
        self.views.shared = message.body["shared"]
        if self._private_network:
            self._outbox.put({"sockets": _READY_SOCKETS})
        if not self._started.done():
            self._started.set_result(None)

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _writer(self, stream: Stream | str, on_output: OnOutput) -> Callable[[str], None]:
        return lambda text: on_output(self._task_id, stream, text)  # type: ignore[arg-type]

    def _readable(self) -> None:
        try:
            messages = receive(self._control, self._decoder)
            for message in messages or ():
                self._hear(message)
        except BlockingIOError:
            return
        except Exception as error:
            self._give_up(error)
        else:
            if messages is None:
                self._end()

    def _give_up(self, error: Exception) -> None:
        """What init said can not be followed: nobody knows what state the container is in, so it ends."""
        _log.error("container %s is ended, since its init can not be followed", self._task_id, exc_info=error)
        self._fail(f"the container's init can not be followed: {error}")
        self._decoder.close()
        self._decoder = Decoder()
        self.kill()

    def _hear(self, message: Message) -> None:
        if "started" in message.body:
            self._begin(message)
        elif "connection" in message.body:
            connection = socket.socket(fileno=message.fds[0])
            self._run(serve_way_out(connection, message.body["connection"], self._upstream))
        elif "socket" in message.body:
            self._sockets.put_nowait(socket.socket(fileno=message.fds[0]))
        elif "execution" in message.body:
            self._executions.hear(message.body)
        elif "view" in message.body:
            self.views.hear(message.body)
        elif "error" in message.body:
            self._fail(f"the container could not be set up: {message.body['error']}")
        elif "exit" in message.body:
            self._code = message.body["exit"]

    def _fail(self, why: str) -> None:
        if not self._started.done():
            self._started.set_exception(ContainerStartError(why))
            self._started.exception()  # a start that was cancelled asks for it no more

    def _end(self) -> None:
        """Init is gone, and with it all that it had started."""
        self._fail("the container's init ended before the container had started")
        self._loop.remove_reader(self._control)
        self._outbox.close()
        self._control.close()
        self._decoder.close()
        self._executions.end()
        self.views.end()
        for output in self._outputs:
            output.close()
        self._sockets.put_nowait(None)
        self._run(self._finish())

    async def _finish(self) -> None:
        try:
            while not self._sockets.empty():
                if made := self._sockets.get_nowait():
                    made.close()
            self._sockets.put_nowait(None)
            await self._release()
        finally:
            self._ended.set_result(ContainerExit(-signal.SIGKILL if self._code is None else self._code))


def _pid_here(pidfd: int) -> int:
    """The number that a process has on this machine. Closes the descriptor."""
    try:
        for line in Path(f"/proc/self/fdinfo/{pidfd}").read_text().splitlines():
            if line.startswith("Pid:"):
                return int(line.split()[1])
        return -1
    finally:
        os.close(pidfd)
