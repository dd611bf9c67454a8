"""Between the emulator and a command that it runs: once the emulator is gone, the command and all below it are ended.

A process of its own, since nobody else is left when the emulator is killed. Its end of a socket is told the signals
that are for the command, a byte each; that the other end closes says that the emulator is gone.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from emulator.containers.guest import descendants

if TYPE_CHECKING:
    from collections.abc import Sequence

ABANDONED_SECONDS = 5
"""How long a command has to end after SIGTERM, once its emulator is gone."""

NO_SUCH_COMMAND, NOT_EXECUTABLE = 127, 126

_IGNORED = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""The command gets these from the terminal, or as one of a group, or by the emulator's word."""
_BOOTSTRAP = "import sys; sys.path.insert(0, sys.argv.pop(1)); from emulator.guard import main; main()"


def guarded(command: Sequence[str], control: socket.socket) -> list[str]:
    """How to start `command` with a guard that has inherited `control`.

    Its exit status is the command's, as a shell gives it: 128+n for signal n, 127 when there is no such command, 126
    when it can not be run; the last two are said on stderr.
    """
    root = str(Path(__file__).resolve().parents[1])
    return [sys.executable, "-I", "-S", "-c", _BOOTSTRAP, root, str(control.fileno()), *command]


def main() -> None:
    descriptor, *command = sys.argv[1:]
    control = socket.socket(fileno=int(descriptor))
    os.set_inheritable(control.fileno(), False)
    descendants.adopt_orphans()
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGALRM, lambda *_: None)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in _IGNORED}
    guard = os.getpid()
    child = os.fork()
    if not child:
        _become(command, guard, [number for number, handler in before.items() if handler != signal.SIG_IGN])
    os._exit(_watch(control, readable, child))


def _become(command: list[str], guard: int, heard: Sequence[int]) -> None:
    signal.set_wakeup_fd(-1)
    for number in (*heard, signal.SIGCHLD, signal.SIGALRM, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)  # the last two are ignored in every Python
    descendants.die_with_parent(guard)
    try:
        os.execvp(command[0], command)  # noqa: S606 - the user's own command
    except FileNotFoundError:
        status, why = NO_SUCH_COMMAND, "no such command"
    except OSError as error:
        status, why = NOT_EXECUTABLE, error.strerror or "it can not be run"
    print(f"emulator: {command[0]}: {why}", file=sys.stderr, flush=True)
    os._exit(status)


def _watch(control: socket.socket, woken: int, child: int) -> int:
    """The command's exit status, once it has ended."""
    watched: list[int] = [control.fileno(), woken]
    while True:
        ready, _, _ = select.select(watched, [], [])
        alarmed = woken in ready and signal.SIGALRM in os.read(woken, 4096)
        status = _reap(child)
        if alarmed or (status is not None and len(watched) == 1):  # its emulator is gone
            _send(child, signal.SIGKILL)
            descendants.kill_all()
        if alarmed or status is not None:
            return 128 + signal.SIGKILL if status is None else _as_shell(status)
        if control.fileno() in ready:
            if told := control.recv(64):
                for number in told:
                    _send(child, number)
            else:
                watched.remove(control.fileno())
                _send(child, signal.SIGTERM)
                signal.alarm(ABANDONED_SECONDS)


def _reap(child: int) -> int | None:
    """Collect what has ended. The child's wait status if it is among that."""
    found: int | None = None
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == child:
                found = ended[1]
    return found


def _send(child: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(child, number)


def _as_shell(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code
