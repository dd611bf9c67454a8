"""The response of a caller who wants one object, and who must hear something before the platform loses patience.

Behind a Modal function an answer whose first byte takes more than 150 s becomes a redirect to a result, which SDKs
follow differently and browsers not at all. JSON may begin with white space: so an answer that takes long begins, with
status 200, by a space for every heartbeat. If it then fails, the connection is cut, which every SDK takes for the
failure that it is and tries again; an error object under status 200 would be taken for the answer.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Self

from web.asgi import send_body

if TYPE_CHECKING:
    from types import TracebackType

    from starlette.types import Send

    from infra.settings import Web
    from web.asgi import Header
    from web.clock import Clock, Timer
    from web.passage import Passage

LATEST_SECONDS = 145.0
"""When an answer begins even though no engine is known to have the request: one that was found at the last moment may
be working on it without having said so."""


class PlainResponse:
    """A context in which the answer is made, and sent by `end`."""

    def __init__(self, send: Send, *, clock: Clock, web: Web, headers: list[Header] | None = None) -> None:
        """`headers`: more of them, beside the content's."""
        self._send = send
        self._clock = clock
        self._web = web
        self._headers = headers or []
        self._timer: Timer | None = None
        self._spaces: asyncio.Task[None] | None = None
        self._begun = False
        self._began = clock.monotonic()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._spaces is not None:
            self._spaces.cancel()

    def follow(self, passage: Passage) -> None:
        """Begin in time, unless the answer comes before: once `passage` is under way, as no status but 200 can follow.
        One that still waits for a place or a boot is to be refused with a status at its own deadline."""
        self._timer = self._clock.call_later(self._web.plain_keepalive_after, lambda: self._late(passage))

    async def end(self, body: bytes) -> None:
        if self._timer is not None:
            self._timer.cancel()
        spaces, self._spaces = self._spaces, None
        if spaces is not None:
            spaces.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await spaces
        if self._begun:
            await self._send({"type": "http.response.body", "body": body})
        else:  # also where the first space was due at this very moment
            await send_body(self._send, body, more=self._headers)

    def _late(self, passage: Passage) -> None:
        left = self._began + max(LATEST_SECONDS, self._web.plain_deadline) - self._clock.monotonic()
        if passage.under_way or left <= 0:
            self._spaces = asyncio.create_task(self._send_spaces(), name="spaces")
            # A space that reaches nobody any more is no failure of its own: who waits for the answer hears of that.
            self._spaces.add_done_callback(lambda spaces: spaces.cancelled() or spaces.exception())
        else:
            again = min(left, self._web.heartbeat_interval)
            self._timer = self._clock.call_later(again, lambda: self._late(passage))

    async def _send_spaces(self) -> None:
        headers = [(b"content-type", b"application/json"), *self._headers]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        self._begun = True
        while True:
            await self._send({"type": "http.response.body", "body": b" ", "more_body": True})
            await self._clock.sleep(self._web.heartbeat_interval)
