"""Connections to servers that are kept for the next request, for each container."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from emulator.ingress.upstream import Upstream

if TYPE_CHECKING:
    from emulator.clock import Clock
    from emulator.ingress.base import ServerTarget

MAX_IDLE_SECONDS = 2.0
"""Below the 5 s after which uvicorn and llama.cpp close an idle connection, so that we never meet one closing."""

MAX_IDLE = 64
"""Idle connections kept for one container."""


class Pool:
    """Connections to the containers of one Server."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock.outside
        self._idle: dict[str, list[Upstream]] = {}
        self._all: dict[Upstream, str] = {}
        self._closed = False

    async def acquire(self, target: ServerTarget, *, fresh: bool = False) -> tuple[Upstream, bool]:
        """A connection to `target`, and whether it has been used before. Raises `OSError`."""
        idle = self._idle.get(target.task_id, [])
        while idle and not fresh:
            upstream = idle.pop()
            if upstream.alive and self._clock.monotonic() - upstream.idle_since < MAX_IDLE_SECONDS:
                return upstream, True
            upstream.close()
        sock = await target.dial()
        try:
            loop = asyncio.get_running_loop()
            _, upstream = await loop.create_connection(lambda: Upstream(self._forget), sock=sock)
        except BaseException:
            sock.close()
            raise
        self._all[upstream] = target.task_id
        return upstream, False

    def release(self, upstream: Upstream) -> None:
        """Keep a connection whose exchange is over, or close it."""
        idle = self._idle.setdefault(self._all.get(upstream, ""), [])
        if not upstream.alive or self._closed or len(idle) >= MAX_IDLE:
            upstream.close()
        else:
            upstream.idle_since = self._clock.monotonic()
            idle.append(upstream)

    def close(self) -> None:
        """Close what is idle; what is in use closes when it is released."""
        self._closed = True
        for idle in self._idle.values():
            for upstream in list(idle):
                upstream.close()
        self._idle.clear()

    def _forget(self, upstream: Upstream) -> None:
        task_id = self._all.pop(upstream, None)
        idle = self._idle.get(task_id) if task_id is not None else None
        if idle is not None and upstream in idle:
            idle.remove(upstream)
        if task_id is not None and not idle and task_id not in self._all.values():
            self._idle.pop(task_id, None)
