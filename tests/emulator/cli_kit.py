"""The `emulator` command as a process, for tests."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMMAND = (sys.executable, "-m", "emulator")


def environment(**extra: str) -> dict[str, str]:
    """This process's, with the emulator on the path of a command that runs elsewhere."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **extra}


async def call(*arguments: str, cwd: Path, **extra: str) -> tuple[int, str, str]:
    """Run the command to its end: exit status, stdout, stderr."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *arguments,
        cwd=cwd,
        env=environment(**extra),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


class Running:
    """A command that runs, and what it has written."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.text = ""
        self._grown = asyncio.Event()
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        while data := await self.process.stdout.read(65536):
            self.text += data.decode()
            self._grown.set()
            self._grown = asyncio.Event()
        self._grown.set()

    async def says(self, pattern: str, *, after: int = 0) -> re.Match[str]:
        """Wait until its output, from `after` on, matches."""
        async with asyncio.timeout(40):
            while (match := re.search(pattern, self.text[after:], re.MULTILINE)) is None:
                assert not self._reader.done(), f"it ended without saying {pattern!r}:\n{self.text}"
                await self._grown.wait()
        return match

    async def ends(self) -> int:
        """Its exit status."""
        async with asyncio.timeout(20):
            status = await self.process.wait()
            await self._reader
        return status

    async def descendants(self) -> set[int]:
        """Every process below it."""
        children: dict[int, list[int]] = {}
        for pid, parent in (await _processes()).items():
            children.setdefault(parent, []).append(pid)
        found, todo = set[int](), [self.process.pid]
        while todo:
            below = children.get(todo.pop(), [])
            found.update(below)
            todo += below
        return found


async def _processes() -> dict[int, int]:
    ps = await asyncio.create_subprocess_exec("ps", "-eo", "pid=,ppid=", stdout=asyncio.subprocess.PIPE)
    out, _ = await ps.communicate()
    return {int(pid): int(parent) for pid, parent in (line.split() for line in out.decode().splitlines())}


async def all_gone(pids: set[int]) -> None:
    """Wait until none of these processes is left."""
    assert pids
    async with asyncio.timeout(30):
        while left := pids & (await _processes()).keys():  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert not left


@asynccontextmanager
async def running(*arguments: str, cwd: Path, **extra: str) -> AsyncIterator[Running]:
    """Start the command; kill it at the end if it still runs."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *arguments,
        cwd=cwd,
        env=environment(**extra),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    command = Running(process)
    try:
        yield command
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
