"""Work that can be ended from outside, with the error that its caller is then told."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType


class Interruptible:
    """A context whose body is cancelled by `interrupt(error)`, and which then raises `error`.

    A caller who leaves at the same time wins: the cancellation that is theirs goes on.
    """

    __slots__ = ("_cancels_before", "_task", "error")

    def __init__(self) -> None:
        self.error: Exception | None = None
        """What it was interrupted with."""
        self._task: asyncio.Task[object] | None = None
        self._cancels_before = 0

    def __enter__(self) -> Self:
        self._task = task = asyncio.current_task()
        if task is None:
            raise RuntimeError("only a task can be interrupted")
        self._cancels_before = task.cancelling()
        return self

    def interrupt(self, error: Exception) -> None:
        """To be called on the loop, from outside the body. The first error stays; none matters after the body."""
        if self.error is None and self._task is not None:
            self.error = error
            self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        if self.error is None or task is None:
            return
        others_cancel_too = task.uncancel() > self._cancels_before
        if kind is not None and issubclass(kind, asyncio.CancelledError) and not others_cancel_too:
            raise self.error from None
