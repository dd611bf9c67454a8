"""One small thing to wait on: `wait` returns at the next `notify`."""

from __future__ import annotations

import asyncio


class Signal:
    """Wakes everyone who waits now; who waits later sleeps until the next notification.

    There is no memory: look at the state first, then wait, with no await in between.
    """

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def notify(self) -> None:
        self._event.set()
        self._event = asyncio.Event()

    async def wait(self) -> None:
        await self._event.wait()
