"""Sandboxes where a test has none, for what asks after them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from emulator.sandboxes.sandboxes import Sandboxes
from emulator.sandboxes.tunnels import Certificate
from emulator.scheduler.history import History

if TYPE_CHECKING:
    from emulator.clock import Clock


def no_sandboxes(clock: Clock) -> Sandboxes:
    """None is there, and none can be made."""
    nothing: Any = None
    return Sandboxes(
        clock=clock,
        history=History(),
        runtime=nothing,
        describe=nothing,
        release=nothing,
        heard=nothing,
        certificate=Certificate(Path("/nonexistent"), nothing),
        max_starting=1,
    )
