"""Containers as plain subprocesses: a fresh interpreter each. Slower to start than forks; works on every machine."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING

from emulator.containers.base import ContainerStartError
from emulator.containers.guest_command import guest_command, guest_environment
from emulator.containers.runtime import SupervisedRuntime

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from emulator.containers.base import OwnPython
    from emulator.containers.ends import Ends
    from emulator.containers.isolation import Isolation


class ProcessSpawner:
    """Every init is a new interpreter."""

    def __init__(self) -> None:
        self._exits: set[asyncio.Task[int]] = set()

    async def spawn(self, launch_file: Path, ends: Ends, _isolation: Isolation, python: OwnPython | None) -> None:
        control, stdout, stderr = ends.given()
        try:
            process = await asyncio.create_subprocess_exec(
                *guest_command("process", control, launch_file, python=python),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                pass_fds=(control,),
                start_new_session=True,
                cwd="/",
                env=guest_environment(os.environ, python),
            )
        except OSError as error:
            raise ContainerStartError(f"{sys.executable} could not be started: {error}") from error
        exited = asyncio.create_task(process.wait())
        self._exits.add(exited)
        exited.add_done_callback(self._exits.discard)

    def ended(self, _python: OwnPython | None) -> None:
        """Nothing is kept for the next."""

    async def warm(self, _isolation: Isolation) -> None:
        """Nothing: every container starts from scratch."""

    async def close(self) -> None:
        if self._exits:
            await asyncio.wait(self._exits)


class ProcessRuntime(SupervisedRuntime):
    """A `ContainerRuntime` of subprocesses."""

    def __init__(self, **options: Any) -> None:
        super().__init__(ProcessSpawner(), **options)
