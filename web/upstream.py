"""The HTTP client to the engines: one bounded pool of connections, and the aborts that outlive their requests."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Mapping

    from web.clock import Clock

log = logging.getLogger(__name__)

AFFINITY_HEADER = "Modal-Session-ID"
MOST_CONNECTIONS = 2048
MOST_ABORTS = 512
"""Aborts on their way at once; above it a closed connection has to be enough."""
ABORT_SECONDS = 5.0
SETTLE_SECONDS = 1.0
"""For a response to end after its last event; then its connection is closed instead of used again."""
CONNECT_SECONDS = 10.0
"""For the TCP connection alone. aiohttp counts it on the machine's own time."""


class Upstream:
    """Made without a loop, so that a memory snapshot can hold it; the session is made by the first request."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None
        self._aborts: set[asyncio.Task[None]] = set()
        self._settling: set[asyncio.Task[None]] = set()

    async def post(self, url: str, *, body: bytes, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        """The response once its headers are there. Raises aiohttp.ClientError and OSError."""
        return await self._open_session().post(url, data=body, headers=headers, allow_redirects=False)

    def abort(self, url: str, *, body: bytes, headers: Mapping[str, str]) -> None:
        """Send an abort, whatever becomes of the caller's task. Failures are logged."""
        if len(self._aborts) >= MOST_ABORTS:
            log.warning("an abort was not sent: %d are on their way", MOST_ABORTS)
            return
        task = asyncio.create_task(self._abort(url, body, headers), name="abort")
        self._aborts.add(task)
        task.add_done_callback(self._aborts.discard)

    def settle(self, response: aiohttp.ClientResponse) -> None:
        """After an answer's end: let the response end too, so that its connection can be used again. Nobody waits."""
        if response.content.at_eof():
            response.release()
            return
        task = asyncio.create_task(self._settle(response), name="settle")
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)

    async def close(self) -> None:
        """Wait for the aborts on their way, and close every connection."""
        for task in self._settling:
            task.cancel()
        if under_way := self._aborts | self._settling:
            await asyncio.wait(under_way)
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _abort(self, url: str, body: bytes, headers: Mapping[str, str]) -> None:
        try:
            async with self._clock.timeout(ABORT_SECONDS):
                answer = await self.post(url, body=body, headers=headers)
                answer.release()
                if answer.status != 200:
                    log.info("an abort was answered %d", answer.status)
        except (TimeoutError, OSError, aiohttp.ClientError) as error:
            log.info("an abort did not arrive: %r", error)

    async def _settle(self, response: aiohttp.ClientResponse) -> None:
        try:
            async with self._clock.timeout(SETTLE_SECONDS):
                await response.content.read()
        except (TimeoutError, aiohttp.ClientError, OSError):
            response.close()
        except BaseException:  # cancelled: nobody else knows of it any more
            response.close()
            raise
        else:
            response.release()

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=MOST_CONNECTIONS, limit_per_host=0),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
                headers={"Content-Type": "application/json", "Accept-Encoding": "identity"},
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                raise_for_status=False,
                trust_env=False,
            )
        return self._session
