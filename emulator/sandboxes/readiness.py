"""Readiness probes: asking a Sandbox again and again whether it is ready."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emulator.containers.base import Command
from emulator.sandboxes.commands import LiveCommand

if TYPE_CHECKING:
    from modal_proto import api_pb2

    from emulator.clock import Clock
    from emulator.containers.base import Container


async def until_ready(container: Container, probe: api_pb2.Probe, clock: Clock) -> None:
    """Return once the probe holds. Raises `ContainerStartError` when the container ends first."""
    while not await _holds(container, probe):
        await clock.sleep(probe.interval_ms / 1000)


async def _holds(container: Container, probe: api_pb2.Probe) -> bool:
    if probe.WhichOneof("probe_oneof") == "tcp_port":
        try:
            (await container.dial(probe.tcp_port)).close()
        except OSError:
            return False
        return True
    command = LiveCommand(keep_stdout=False, keep_stderr=False)
    try:
        await command.run(container, Command(words=list(probe.exec_command.argv)))
    finally:
        command.close()
    return command.code == 0
