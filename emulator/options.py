"""How an emulator is to be."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from emulator.clock import RealClock

if TYPE_CHECKING:
    from pathlib import Path

    from emulator.clock import Clock
    from emulator.containers import Kind
    from emulator.logs import LogSink

DEFAULT_EXIT_GRACE = 5.0


@dataclass(frozen=True, kw_only=True)
class Options:
    """How an emulator is to be. Ports of 0 are any that is free."""

    state_directory: Path | None = None
    """Where everything is kept that outlives an emulator; `None`: a temporary folder that goes with it."""
    clock: Clock = field(default_factory=RealClock)
    containers: Kind = "auto"
    port: int = 0
    """Of the control plane."""
    web_port: int = 0
    """Of the first web function that is deployed."""
    web_for: str = ""
    """What `web_port` is for: over restarts an address has it as long as this is the same."""
    aws_port: int = 0
    """Of S3 and DynamoDB."""
    ingress_port: int = 0
    """Of the shared port, where addresses are told apart by host or path."""
    log: LogSink | None = None
    max_starting: int = 2
    """Containers that may boot at the same time."""
    run_commands: bool = False
    """Whether images' shell commands (`Image.run_commands`, `RUN`) are run when they are built."""
    max_containers: int = 16
    """Of one function that sets no maximum itself."""
    exit_grace: float = DEFAULT_EXIT_GRACE
    """Seconds that containers have for their exit handlers when the emulator stops."""
