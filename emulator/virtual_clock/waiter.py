"""A lock that one thread waits on, once: it knows whether it has been released, before the thread itself does."""

from __future__ import annotations

import _thread
from typing import Literal

End = Literal["released", "expired"]


class Waiter:
    """Stands for the lock of a `threading.Condition`'s waiter."""

    def __init__(self) -> None:
        self._lock = _thread.allocate_lock()
        self._lock.acquire()
        self._end: dict[None, End] = {}
        """Whichever came first; that is one step of the interpreter."""

    def acquire(self, timeout: float = -1.0) -> bool:
        """As `lock.acquire`."""
        return self._lock.acquire(timeout=timeout)

    @property
    def waits(self) -> bool:
        """Whether nothing has ended the wait yet."""
        return not self._end

    @property
    def expired(self) -> bool:
        """Whether its time limit has ended the wait."""
        return self._end.get(None) == "expired"

    def release(self) -> None:
        """End the wait. Raises `RuntimeError`, as a lock does, when that had been done, or its time was over."""
        if self._end.setdefault(None, "released") == "expired":
            raise RuntimeError("release of a waiter whose time is over")
        self._lock.release()

    def expire(self) -> None:
        """Its time limit has come. Harmless when the wait had ended."""
        if not self._end and self._end.setdefault(None, "expired") == "expired":
            self._lock.release()
