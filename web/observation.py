"""What the relay tells about a request while it serves it: the seam through which metrics and logs see it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from web.dialects.pieces import Usage
    from web.exchange import Phase


class Observation(Protocol):
    """One request. Methods are called on the event loop, must be quick and never raise. `now`: the clock's monotonic
    seconds. `ended` comes exactly once, whatever happens, last."""

    def waiting(self, phase: Phase, now: float) -> None:
        """There is no engine yet, or no place at one."""

    def sent(self, now: float | None) -> None:
        """The request is on its way to an engine. None: that engine does not work on it, and never will."""

    def opened(self, now: float) -> None:
        """An engine has taken the request and begun to answer."""

    def heard(self, pieces: int, now: float) -> None:
        """So many pieces of the answer (a token each, for the engines that there are) came together."""

    def ended(self, usage: Usage | None, error: BaseException | None, now: float) -> None:
        """It is over. `usage`: as far as the engine told it; `error`: None for a complete answer, CancelledError for a
        caller who left."""


class Unobserved:
    """Nobody watches."""

    def waiting(self, phase: Phase, now: float) -> None: ...

    def sent(self, now: float | None) -> None: ...

    def opened(self, now: float) -> None: ...

    def heard(self, pieces: int, now: float) -> None: ...

    def ended(self, usage: Usage | None, error: BaseException | None, now: float) -> None: ...
