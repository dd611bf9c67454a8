"""Commands that run in a container beside its main process: forked by its init, which reaps them.

A command is `{"execute": number, "words": […], "environment": {…}, "workdir": path, "terminal": bool, "main": bool}`
with three descriptors (one, with a terminal), and is a session of its own. `{"execution": number}` answers that it
runs, with `error` and `errno` that it can not, and with `code`, later, that it has ended.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import signal
import termios
from typing import TYPE_CHECKING, NoReturn

from emulator.containers.guest import descendants, files

if TYPE_CHECKING:
    from collections.abc import Sequence

    from emulator.containers.channel import Message
    from emulator.containers.launch import Launch

_MOST_DESCRIPTORS = 1 << 16
_TOLD = 3
"""The descriptor through which a command that can not be run says so. Closed by its running."""


class Commands:
    """Those of one container, whose own environment and folder `launch` has."""

    def __init__(self, launch: Launch) -> None:
        self._launch = launch
        self._running: dict[int, int] = {}
        """Numbers, by process."""

    def start(self, message: Message) -> int:
        """Run a command: its process. Raises `OSError` where it can not be run. Closes the message's descriptors."""
        readable, writable = os.pipe()
        init = os.getpid()
        try:
            child = os.fork()
            if child == 0:
                self._run(message, init, writable)
        finally:
            os.close(writable)
            for descriptor in message.fds:
                os.close(descriptor)
        with os.fdopen(readable, "rb") as told:
            if why := told.read():
                os.waitpid(child, 0)
                raise OSError(*json.loads(why))
        self._running[child] = message.body["execute"]
        return child

    def ended(self, pid: int) -> int | None:
        """The number of the command whose process that was."""
        return self._running.pop(pid, None)

    def signal(self, number: int, signal_number: int) -> None:
        """Send a command and its process group a signal."""
        for pid, running in self._running.items():
            if running == number:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal_number)

    def kill_all(self) -> None:
        """For where orphans do not come to init: kill the process groups."""
        for pid in self._running:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)

    def _run(self, message: Message, init: int, told: int) -> NoReturn:
        body = message.body
        status = 127
        try:
            _be_alone(init, message.fds, told, terminal=body["terminal"])
            os.chdir(body["workdir"] or self._launch.workdir)
            if body["words"][0] == files.TOOL:
                os.close(_TOLD)
                status = files.main(body["words"][1:])
            else:
                environment = {**self._launch.environment, **body["environment"]}
                os.execvpe(body["words"][0], body["words"], environment)  # noqa: S606 - what it is for
        except (OSError, ValueError) as error:  # ValueError: a word or a variable with a NUL in it
            number, why = getattr(error, "errno", errno.EINVAL), getattr(error, "strerror", str(error))
            with contextlib.suppress(OSError):
                os.write(_TOLD, json.dumps([number, f"{body['words'][0]}: {why}"]).encode())
        finally:
            os._exit(status)


def _be_alone(init: int, streams: Sequence[int], told: int, *, terminal: bool) -> None:
    """A session of its own with those streams and no other descriptor but `_TOLD`, and signals as a program expects."""
    signal.set_wakeup_fd(-1)
    for name in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(name, signal.SIG_DFL)
    os.setsid()
    descendants.die_with_parent(init)
    # All of these are above 3: what init inherited is below.
    for number, descriptor in enumerate((*streams, *streams, *streams)[:3]):
        os.dup2(descriptor, number)
    os.dup2(told, _TOLD, inheritable=False)
    os.closerange(_TOLD + 1, _MOST_DESCRIPTORS)
    if terminal:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
