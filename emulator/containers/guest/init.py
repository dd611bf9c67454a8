"""A container's init: parent of its main process, the only one that talks to the emulator, and the one who cleans up.

It tells `{"started": pid}` or `{"error": why}`, later `{"exit": code}`, and does as told: `{"signal": n}` goes to the
main process, `{"kill": true}` to everything, `{"sockets": n}` gets sockets of the container's network, and
`{"execute": n, …}` runs a command beside the main process (see `commands`), or as that of a bare container;
`{"view": n, …}` takes a Volume away, or shows it as it is now (see `views`), and is answered by the same number. Who
connects to one of the machine's ports inside that network is handed over as `{"connection": port}` (0: to the proxy):
so the emulator holds descriptors for connections only, however many ports there are. An emulator that is gone is a
kill: the connection ends, or the descriptor of its life (`{"emulator": true}`) says so.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
from typing import TYPE_CHECKING, Any

from emulator.containers.channel import Decoder, Message, receive, send
from emulator.containers.guest import descendants, namespaces, network, root
from emulator.containers.guest.commands import Commands
from emulator.containers.guest.views import Views

if TYPE_CHECKING:
    from emulator.containers.launch import Launch


def supervise(launch: Launch, control: socket.socket) -> None:
    """Be the init of one container. Returns in the container's main process only."""
    os.set_inheritable(control.fileno(), False)
    descendants.adopt_orphans()
    try:
        views = Views(launch.views, launch.how) if launch.views else None
        listeners = _isolate(launch, views)
        wakeup = _wake_on_child()
        init = os.getpid()
        child = None if launch.bare else os.fork()
    except OSError as error:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # an emulator that is gone needs no answer
            send(control, {"error": str(error)})
        os._exit(1)
    if child == 0:
        for end in (control, *listeners.values()):
            end.close()
        for descriptor in wakeup:
            os.close(descriptor)
        if views is not None:
            views.close()
        _become_main_process(init)
        return
    try:
        _Init(launch, control, wakeup[0], child, listeners, views).run()
    except (BrokenPipeError, ConnectionResetError):
        pass  # an emulator that is gone is a kill
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        descendants.kill_all()
        os._exit(1)


def _isolate(launch: Launch, views: Views | None) -> dict[int, socket.socket]:
    """Make what the container is to see, and the listening sockets in its network: by port, and 0 for the proxy."""
    if not launch.how:
        return {}
    namespaces.unshare_view(private_network=launch.private_network)
    root.enter(launch.root, launch.binds, launch.overlays, views)
    if views is not None:
        views.entered()
    if not launch.private_network:
        return {}
    listeners = {port: network.listen(port) for port in launch.listen}
    if 0 in listeners:
        _, port = listeners[0].getsockname()
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
            launch.environment.setdefault(name, f"http://127.0.0.1:{port}")
    return listeners


def _wake_on_child() -> tuple[int, int]:
    """A pipe that becomes readable when a child has ended."""
    readable, writable = os.pipe()
    os.set_blocking(readable, False)
    os.set_blocking(writable, False)
    signal.signal(signal.SIGCHLD, lambda _signal, _frame: None)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    return readable, writable


def _become_main_process(init: int) -> None:
    """Undo what init set up for itself, in a session of its own that dies with init."""
    signal.set_wakeup_fd(-1)
    for name in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.setsid()
    descendants.die_with_parent(init)


class _Init:
    def __init__(
        self,
        launch: Launch,
        control: socket.socket,
        wakeup: int,
        main: int | None,
        listeners: dict[int, socket.socket],
        views: Views | None,
    ) -> None:
        self._views = views
        self._commands = Commands(launch)
        self._control = control
        self._wakeup = wakeup
        self._main = main
        self._listeners = {listener.fileno(): (port, listener) for port, listener in listeners.items()}
        self._decoder = Decoder()
        self._poll = select.poll()
        self._emulator = -1

    def run(self) -> None:
        """Serve until the main process has ended or the emulator wants an end, then leave nothing behind."""
        self._tell_started()
        for descriptor in (self._control.fileno(), self._wakeup, *self._listeners):
            self._poll.register(descriptor, select.POLLIN)
        code: int | None = None
        while code is None:
            ready = {descriptor for descriptor, _ in self._poll.poll()}
            if self._emulator in ready:
                break
            for descriptor in ready & self._listeners.keys():
                self._hand_over(*self._listeners[descriptor])
            if self._control.fileno() in ready and not self._obey():
                break
            if self._wakeup in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wakeup, 4096)
                code = self._reap()
        self._commands.kill_all()
        ended = descendants.kill_all(self._main)
        code = ended if code is None else code
        with contextlib.suppress(OSError):
            send(self._control, {"exit": -signal.SIGKILL if code is None else code})
        os._exit(0)

    def _tell_started(self) -> None:
        """The process goes as a descriptor where there are such: its number means nothing in another namespace."""
        started = os.getpid() if self._main is None else self._main
        body: dict[str, Any] = {"started": started, "shared": self._views.shared if self._views is not None else ""}
        if hasattr(os, "pidfd_open"):
            process = os.pidfd_open(started)
            send(self._control, body, [process])
            os.close(process)
        else:
            send(self._control, body)

    def _hand_over(self, port: int, listener: socket.socket) -> None:
        """Give the emulator a connection that somebody in here has made."""
        with contextlib.suppress(OSError):  # it may be gone again, and so may the emulator: that is seen elsewhere
            connection, _ = listener.accept()
            with connection:
                send(self._control, {"connection": port}, [connection.fileno()])

    def _obey(self) -> bool:
        """Do what the emulator asks. False: everything is to end."""
        messages = receive(self._control, self._decoder)
        return messages is not None and all(self._do(message) for message in messages)

    def _do(self, message: Message) -> bool:
        if "of" in message.body:
            self._commands.signal(message.body["of"], message.body["signal"])
        elif "signal" in message.body and self._main is not None:
            os.kill(self._main, message.body["signal"])
        if "execute" in message.body:
            self._execute(message)
        if "view" in message.body:
            self._view(message)
        if "emulator" in message.body:
            (self._emulator,) = message.fds
            self._poll.register(self._emulator, select.POLLIN)
        for _ in range(message.body.get("sockets", 0)):
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as one:
                send(self._control, {"socket": True}, [one.fileno()])
        return "kill" not in message.body

    def _execute(self, message: Message) -> None:
        answer: dict[str, Any] = {"execution": message.body["execute"]}
        try:
            child = self._commands.start(message)
        except OSError as error:
            answer |= {"error": error.strerror, "errno": error.errno}
        else:
            if message.body["main"]:
                self._main = child
        send(self._control, answer)

    def _view(self, message: Message) -> None:
        """Take a Volume away (`hide`: where it is), or show it again (`show`: as in `Launch.views`)."""
        assert self._views is not None
        answer: dict[str, Any] = {"view": message.body["view"], "errno": 0}
        try:
            if "hide" in message.body:
                self._views.hide(message.body["hide"])
            else:
                self._views.show(message.body["show"])
        except OSError as error:
            answer |= {"errno": error.errno, "error": error.strerror}
        send(self._control, answer)

    def _reap(self) -> int | None:
        """Collect every child that has ended, orphans too. The main process's exit status if it was among them."""
        code: int | None = None
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return code
            if pid == 0:
                return code
            if (number := self._commands.ended(pid)) is not None:
                send(self._control, {"execution": number, "code": os.waitstatus_to_exitcode(status)})
            if pid == self._main:
                code = os.waitstatus_to_exitcode(status)
