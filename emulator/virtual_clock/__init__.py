"""Time that stands still until a test turns it: `Emulator(clock=VirtualClock())`, then `clock.advance("5m")`."""

from emulator.virtual_clock.clock import VirtualClock
from emulator.virtual_clock.quiet import NotQuietError

__all__ = ["NotQuietError", "VirtualClock"]
