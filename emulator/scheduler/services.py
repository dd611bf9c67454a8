"""What every pool is given: the parts of the emulator that a pool works with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from emulator.faults.plans import Plans
from emulator.scheduler.history import History

if TYPE_CHECKING:
    from collections.abc import Callable

    from emulator.clock import Clock
    from emulator.containers.base import ContainerRuntime, ContainerSpec, OnOutput
    from emulator.scheduler.calls import Calls
    from emulator.scheduler.limiter import StartLimiter
    from emulator.scheduler.pool import Pool
    from emulator.scheduler.slot import Slot
    from emulator.signals import Signal
    from emulator.state import FunctionRecord


class Launcher(Protocol):
    """Knows images, mounts and secrets: turns a function into a container's description."""

    async def prepare(self, function: FunctionRecord, task_id: str) -> ContainerSpec:
        """Open the container's own control socket and describe the container."""

    async def release(self, task_id: str) -> None:
        """The container is gone: close its socket. Harmless when nothing was prepared."""


@dataclass(frozen=True)
class Services:
    clock: Clock
    calls: Calls
    limiter: StartLimiter
    launcher: Launcher
    runtime: ContainerRuntime
    on_output: OnOutput
    say: Callable[[str], None]
    changed: Signal
    """Notified whenever anything about a pool has changed."""
    machine_limit: int
    """Containers of one function when its definition sets no maximum."""
    history: History = field(default_factory=History)
    plans: Plans = field(default_factory=Plans)
    """What is to go wrong."""
    places: dict[str, tuple[Pool, Slot]] = field(default_factory=dict)
    """Every container that is there, by task id: each of its requests asks for it."""
