"""Lets a container that writes without a pause write more at a time.

Modal's runtime sends what has gathered while its last write was under way, and each write costs both sides some hundred
microseconds, whatever is in it. Answered at once, as over a loopback it can be, it would write every small chunk alone.
"""

from __future__ import annotations

HOLD = 0.005
"""Seconds that a write takes at least while its writer does not pause: about a network's round trip."""

PAUSE = 0.03
"""Seconds without a write after which there was a pause: enough of them that a busy machine does not look like one.
What comes more than `HOLD` after the write before it is passed on without delay in any case."""

IN_A_ROW = 3
"""Writes without a pause before one is held: an answer of a few pieces is over by then."""


class Pacing:
    """The writes of one stream. Times are monotonic, in seconds."""

    def __init__(self) -> None:
        self._last = float("-inf")
        self._in_a_row = 0

    def hold(self, now: float) -> float:
        """For how long a write that was taken `now` is to wait for its answer."""
        self._in_a_row = self._in_a_row + 1 if now - self._last < PAUSE else 0
        self._last = now
        return HOLD if self._in_a_row >= IN_A_ROW else 0.0
