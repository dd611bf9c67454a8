"""Who waits for a change of what has a key, within one event loop."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

Key = TypeVar("Key")


class Waiters(Generic[Key]):
    """Made without a loop."""

    def __init__(self) -> None:
        self._waiting: dict[Key, set[asyncio.Future[None]]] = {}

    @contextlib.contextmanager
    def waiting(self, key: Key) -> Iterator[asyncio.Future[None]]:
        """A future that is done once `key` is told."""
        told = asyncio.get_running_loop().create_future()
        others = self._waiting.setdefault(key, set())
        others.add(told)
        try:
            yield told
        finally:
            others.discard(told)
            if not others and self._waiting.get(key) is others:
                del self._waiting[key]

    def tell(self, key: Key) -> None:
        for told in self._waiting.pop(key, ()):
            if not told.done():
                told.set_result(None)
