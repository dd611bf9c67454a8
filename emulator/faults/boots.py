"""A container that never comes to be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emulator.containers.base import ContainerExit, ContainerStartError

if TYPE_CHECKING:
    import socket

    from emulator.containers.base import Command, Running


class StillBorn:
    """A `Container` that has ended before it has begun."""

    pid = 0

    def __init__(self, task_id: str, code: int) -> None:
        self.task_id = task_id
        self._code = code

    async def wait(self) -> ContainerExit:
        return ContainerExit(self._code)

    def terminate(self) -> None:
        """It has ended."""

    def read_output(self) -> None:
        """It has written nothing."""

    def interrupt(self) -> None:
        """It works on nothing."""

    def kill(self) -> None:
        """It has ended."""

    async def execute(self, command: Command) -> Running:  # noqa: ARG002
        raise ContainerStartError(f"{self.task_id} has ended")

    async def dial(self, port: int) -> socket.socket:
        raise ConnectionRefusedError(f"nothing listens on {port}: {self.task_id} has not started")
