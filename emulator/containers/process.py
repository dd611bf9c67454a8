"""Containers as plain subprocesses: a fresh interpreter each. Slower to start than forks; works on every machine."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING

from emulator.containers.base import ContainerStartError
from emulator.containers.environment import inherited
from emulator.containers.launch import BOOTSTRAP, emulator_root
from emulator.containers.runtime import SupervisedRuntime

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Any

    from emulator.containers.supervised import Ends


class ProcessSpawner:
    """Every init is a new interpreter."""

    def __init__(self) -> None:
        self._exits: set[asyncio.Task[int]] = set()

    async def spawn(self, launch_file: Path, ends: Ends) -> None:
        control, stdout, stderr = ends.given()
        try:
            process = await asyncio.create_subprocess_exec(
                *guest_command("process", control, launch_file),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                pass_fds=(control,),
                start_new_session=True,
                cwd="/",
                env=guest_environment(os.environ),
            )
        except OSError as error:
            raise ContainerStartError(f"{sys.executable} could not be started: {error}") from error
        exited = asyncio.create_task(process.wait())
        self._exits.add(exited)
        exited.add_done_callback(self._exits.discard)

    async def close(self) -> None:
        if self._exits:
            await asyncio.wait(self._exits)


def guest_command(mode: str, *arguments: object) -> list[str]:
    """How to start an interpreter of the container's side."""
    words = [sys.executable, "-I", "-X", "utf8", "-c", BOOTSTRAP, emulator_root(), mode, *arguments]
    return [str(word) for word in words]


def guest_environment(machine: Mapping[str, str]) -> dict[str, str]:
    """What the container's side is started with, before it is any container: none of the developer's Modal settings."""
    return {**inherited(machine), "HOME": "/nonexistent", "MODAL_IS_REMOTE": "1"}


class ProcessRuntime(SupervisedRuntime):
    """A `ContainerRuntime` of subprocesses."""

    def __init__(self, **options: Any) -> None:
        super().__init__(ProcessSpawner(), **options)
