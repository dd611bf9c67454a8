"""Commands of a build: their output as it comes, and no life beyond the emulator's."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
import signal
import socket
from typing import TYPE_CHECKING

from emulator.guard import guarded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

_READ = 65536


async def run_command(
    command: Sequence[str], *, environment: Mapping[str, str], cwd: Path, write: Callable[[str], None]
) -> int:
    """Run a command to its end, hand on what it writes, and return its exit status, as a shell gives it.

    Who is cancelled kills it and all that it has started; so does the end of the emulator. Raises `OSError` when it
    can not be started.
    """
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *guarded(command, theirs),
                env=dict(environment),
                cwd=cwd,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
                pass_fds=(theirs.fileno(),),
            )
        try:
            await _hand_on(process.stdout, write)
            return await process.wait()
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()


async def _hand_on(stream: asyncio.StreamReader | None, write: Callable[[str], None]) -> None:
    assert stream is not None
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    while data := await stream.read(_READ):
        if text := decoder.decode(data):
            write(text)
    if text := decoder.decode(b"", final=True):
        write(text)
