"""Commands that run against an emulator: their environment, and their end."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from emulator.guard import guarded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from emulator.clock import Clock

TERMINATE_SECONDS = 5.0
"""How long a command has to end after SIGTERM."""

_KEPT = frozenset(("MODAL_LOGLEVEL", "MODAL_TRACEBACK", "MODAL_LOG_FORMAT"))
"""Settings of the modal client that say nothing about where it connects, or as whom."""


def environment_for(emulator: Mapping[str, str], base: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment for a command: the caller's, but nothing of the caller's accounts with Modal and AWS.

    The folder of this Python's commands is appended to `PATH`, so that `modal` is found without an activated venv.
    """
    kept = {
        name: value for name, value in base.items() if name in _KEPT or not name.startswith(("MODAL_", "AWS_", "BOTO_"))
    }
    kept["PATH"] = os.pathsep.join(filter(None, (kept.get("PATH", os.defpath), str(Path(sys.executable).parent))))
    return kept | dict(emulator)


def exit_status(code: int) -> int:
    """A process's return code as a shell gives it: 128+n for signal n."""
    return 128 - code if code < 0 else code


class Children:
    """The commands that run now, each in a process group of its own."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._groups: set[int] = set()

    async def run(self, command: str | Sequence[str], *, environment: Mapping[str, str]) -> int:
        """Run a command (a string: by the shell) and return its exit status, as a shell gives it.

        When this is cancelled, the whole group is ended. Raises `OSError` when it can not be started.
        """
        arguments = ("/bin/sh", "-c", command) if isinstance(command, str) else tuple(command)
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                process = await asyncio.create_subprocess_exec(
                    *guarded(arguments, theirs),
                    env=dict(environment),
                    stdin=asyncio.subprocess.DEVNULL,
                    start_new_session=True,
                    pass_fds=(theirs.fileno(),),
                )
            self._groups.add(process.pid)
            try:
                return exit_status(await process.wait())
            finally:
                if process.returncode is None:
                    await self._end(process)
                self._groups.discard(process.pid)

    def kill(self) -> None:
        """SIGKILL all of them."""
        for group in self._groups:
            _signal(group, signal.SIGKILL)

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        _signal(process.pid, signal.SIGTERM)
        try:
            async with self._clock.timeout(TERMINATE_SECONDS):
                await process.wait()
        except TimeoutError:
            pass
        finally:
            _signal(process.pid, signal.SIGKILL)
            await process.wait()


def _signal(group: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
