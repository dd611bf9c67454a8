"""Beside every request: signs of life for a caller who hears nothing, and an end to an engine that says nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from web.clock import Clock, Timer
    from web.exchange import Exchange
    from web.outlets import Outlet

FIRST_SILENCE_SECONDS = 2.0
"""How long a streaming caller's status is held back, so that an engine's quick refusal can still be a status."""


class Heartbeat:
    """A context. Every `pause` seconds it looks whether the engine still speaks, and sends `out` a comment if nothing
    was written since the last time: so a caller's silence is shorter than two pauses. A timer, and no task until there
    is something to send."""

    def __init__(
        self, exchange: Exchange, out: Outlet | None, *, clock: Clock, pause: float, status: Callable[[], str]
    ) -> None:
        """`status`: what the comment says."""
        self._exchange = exchange
        self._out = out
        self._clock = clock
        self._pause = pause
        self._status = status
        self._timer: Timer | None = None
        self._comment: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        self._timer = self._clock.call_later(min(FIRST_SILENCE_SECONDS, self._pause), self._beat)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        if self._comment is not None:
            self._comment.cancel()

    def _beat(self) -> None:
        if self._timer is None:
            return  # it was due at the moment that the request ended
        self._timer = self._clock.call_later(self._pause, self._beat)
        self._exchange.check_silence()
        if self._out is not None:
            if not self._out.written and (self._comment is None or self._comment.done()):
                self._comment = asyncio.create_task(self._out.comment(self._status()), name="comment")
                self._comment.add_done_callback(_forget)
            self._out.written = False


def _forget(comment: asyncio.Task[None]) -> None:
    """A comment that failed is no affair of its own: whoever writes next meets the reason."""
    if not comment.cancelled():
        comment.exception()
