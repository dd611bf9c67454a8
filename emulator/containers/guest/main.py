"""The container side's entry point: `probe FD FOLDER`, `zygote FD HOW` or `process FD LAUNCH_FILE`.

A container is two processes. Its init is forked from the warm process (or is this process), makes what the container
is to see, forks the container's main process, and stays to reap, to kill and to tell the emulator. `supervise` returns
in the main process only, so that user code runs on a short stack.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import os
import select
import signal
import socket
import sys
import threading
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from emulator.containers import compat
from emulator.containers.channel import Decoder, Message, receive, send
from emulator.containers.guest import namespaces
from emulator.containers.guest.init import supervise
from emulator.containers.guest.paths import forget_deployer, forget_emulator
from emulator.containers.launch import MODAL_ENTRY, Launch

if TYPE_CHECKING:
    from collections.abc import Callable


def main() -> None:
    mode, descriptor, *rest = sys.argv[1:]
    connection = socket.socket(fileno=int(descriptor))
    forget_deployer()
    if mode == "probe":
        how, private_network, why = namespaces.probe(rest[0])
        send(connection, {"how": how, "private_network": private_network, "why": why})
        return
    if mode == "zygote":
        connection, launch = fork_on_request(connection, *rest)
    else:
        launch = Launch.read(Path(rest[0]))
        if launch.how:
            namespaces.fork_isolated(launch.how)
    supervise(launch, connection)
    become(launch)


def fork_on_request(channel: socket.socket, how: str = "") -> tuple[socket.socket, Launch]:
    """Be the warm process: fork for every request. Returns in the forked processes only."""
    if how == "user":
        namespaces.fork_isolated(how)
    os.set_inheritable(channel.fileno(), False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        warning = compat.preimport()
    except compat.IncompatibleClientError as error:
        _tell(channel, {"error": str(error)})
        sys.exit(1)
    if threading.active_count() > 1:
        names = ", ".join(thread.name for thread in threading.enumerate()[1:])
        _tell(channel, {"error": f"importing modal started threads ({names}): a process with threads must not fork"})
        sys.exit(1)
    gc.collect()
    gc.freeze()  # what is warm now is never collected: the collector's marks would copy every shared page
    _tell(channel, {"ready": True, "warning": warning})
    orders = _Orders(channel)
    while (message := orders.next()) is not None:
        if forked := _fork(message):
            orders.close()
            return forked
    os._exit(0)


class _Orders:
    """What the emulator asks the warm process for, until either is gone."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._decoder = Decoder()
        self._waiting: deque[Message] = deque()
        self._life: int | None = None
        """Readable when the emulator has ended."""

    def next(self) -> Message | None:
        while not self._waiting:
            watched: list[Any] = [self._channel, *([] if self._life is None else [self._life])]
            readable, _, _ = select.select(watched, [], [])
            if self._life in readable or (messages := receive(self._channel, self._decoder)) is None:
                return None
            for message in messages:
                if "emulator" in message.body:
                    (self._life,) = message.fds
                else:
                    self._waiting.append(message)
        return self._waiting.popleft()

    def close(self) -> None:
        """Close what a container is not to have of it."""
        self._channel.close()
        self._decoder.close()
        if self._life is not None:
            os.close(self._life)


def _tell(channel: socket.socket, body: dict[str, Any]) -> None:
    """Say something to the emulator. Ends this process, without a word, when the emulator has gone in the meantime."""
    try:
        send(channel, body)
    except (BrokenPipeError, ConnectionResetError):
        os._exit(0)


def _fork(message: Message) -> tuple[socket.socket, Launch] | None:
    """One container's init: None in the warm process."""
    control, stdout, stderr = message.fds
    launch = Launch.read(Path(message.body["launch"]))
    if namespaces.fork_into_processes() if launch.how else os.fork():
        for descriptor in message.fds:
            os.close(descriptor)
        return None
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    os.close(stdout)
    os.close(stderr)
    return socket.socket(fileno=control), launch


def become(launch: Launch) -> None:
    """Be the container's main process: environment, folder and path, then the entry function."""
    entry = _resolve(MODAL_ENTRY) if launch.entry == MODAL_ENTRY else None
    os.environ.clear()
    os.environ.update(launch.environment)
    os.chdir(launch.workdir)
    sys.path[:0] = launch.path
    sys.argv[:] = [launch.entry]
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    forget_emulator()
    leave(_run(entry or _resolve(launch.entry)))


def _run(entry: Callable[[], int | None]) -> int:
    """The exit status that the interpreter would give the process."""
    try:
        return entry() or 0
    except SystemExit as left:
        if left.code is None or isinstance(left.code, int):
            return left.code or 0
        print(left.code, file=sys.stderr)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    return 1


def leave(code: int) -> NoReturn:
    """End the process as the interpreter does, but for taking every module apart.

    That would first copy most of the memory that the container still shares with the warm process: 40 ms for nothing.
    Waiting for threads and running exit functions has no public name; `multiprocessing` ends its forks by the same two.
    """
    with contextlib.suppress(KeyboardInterrupt):
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code & 0xFF)


def _resolve(entry: str) -> Callable[[], int | None]:
    module, _, name = entry.partition(":")
    function: Callable[[], int | None] = getattr(importlib.import_module(module), name)
    return function
