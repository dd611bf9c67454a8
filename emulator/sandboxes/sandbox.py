"""One Sandbox: what it was asked to be, and what has become of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from modal_proto import api_pb2

from emulator.signals import Signal

if TYPE_CHECKING:
    import asyncio

    from emulator.containers.base import Container
    from emulator.sandboxes.commands import LiveCommand
    from emulator.sandboxes.tunnels import Tunnel

Result = api_pb2.GenericResult


@dataclass(eq=False)
class Sandbox:
    """Times are seconds since the epoch, 0 for what has not been."""

    sandbox_id: str
    task_id: str
    app_id: str
    definition: api_pb2.Sandbox
    secrets: dict[str, str] = field(repr=False)
    """Variables that came with the request itself."""
    tags: dict[str, str]
    created_at: float
    second: bool
    """Of Modal's second kind: the client tells them apart by their ids, and asks for each by RPCs of its own."""
    command: LiveCommand
    name: str = ""
    started_at: float = 0.0
    finished_at: float = 0.0
    ready_at: float = 0.0
    result: api_pb2.GenericResult | None = None
    """Once it has ended."""
    ending: api_pb2.GenericResult | None = None
    """Why it is being ended, if it is."""
    container: Container | None = None
    tunnels: list[Tunnel] = field(default_factory=list)
    changed: Signal = field(default_factory=Signal)
    active: int = 0
    """Commands that run in it, and connections through its tunnels."""
    used_at: float = 0.0
    """When it was last active, on the clock's monotonic scale."""
    stdin_index: int = 0
    """Of the last write to its stdin that came by number."""
    life: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        return self.result is None

    async def started(self) -> Container | None:
        """Its container, once it is there. None: it has ended."""
        while self.running and self.container is None:
            await self.changed.wait()
        return self.container if self.running else None


def result_of(code: int) -> api_pb2.GenericResult:
    """What a code, as `subprocess` has it, means to the client."""
    if code == 0:
        return Result(status=Result.GENERIC_STATUS_SUCCESS)
    return Result(status=Result.GENERIC_STATUS_FAILURE, exitcode=128 - code if code < 0 else code)


TERMINATED = Result(status=Result.GENERIC_STATUS_TERMINATED, exception="The Sandbox was terminated")
TIMED_OUT = Result(status=Result.GENERIC_STATUS_TIMEOUT, exception="The Sandbox ran out of time")
IDLE = Result(status=Result.GENERIC_STATUS_TERMINATED, exception="The Sandbox was idle for too long")
