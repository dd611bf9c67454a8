"""The access log: one line for each request over HTTP and each answer over a WebSocket, when it is over.

It has the template of the route and never the path, the key's name and never the key.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

from web.errors import to_wire
from web.metrics import LEFT
from web.record import Record, recorded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infra.settings import Observability
    from web.clock import Clock
    from web.record import Story

log = logging.getLogger(__name__)

QUIET = ("/health", "/readiness")


class AccessLog:
    """Told by the logger of this module."""

    def __init__(self, observability: Observability) -> None:
        self._on = observability.access_log
        self._quiet = frozenset({*QUIET, observability.metrics_path})
        """Routes that machines ask every few seconds: told at the level debug."""

    def tell(self, record: Record, *, method: str, route: str | None, status: int, seconds: float) -> None:
        """`route`: its template; None: there is none. `seconds`: that it took."""
        level = logging.DEBUG if route in self._quiet and status < 400 else logging.INFO
        if self._on and log.isEnabledFor(level):
            fields = access_fields(record, method=method, route=route, status=status, seconds=seconds)
            # As `log.info` does it, but for the search of who called, which takes longer than all the rest.
            arguments = (method, route or "(no route)", status)
            log.handle(log.makeRecord(log.name, level, __file__, 0, "%s %s %d", arguments, None, extra=fields))

    @contextlib.contextmanager
    def answer(self, request_id: str, *, route: str, clock: Clock) -> Iterator[Record]:
        """Around an answer over a WebSocket. Its status is the one that its end would have over HTTP."""
        began, status = clock.monotonic(), LEFT
        with recorded(Record(request_id=request_id)) as record:
            try:
                yield record
                status = 200
            except asyncio.CancelledError:
                record.left = True
                raise
            except Exception as error:
                wire = to_wire(error)
                status, record.error = wire.status, wire.code or wire.type
                raise
            finally:
                seconds = clock.monotonic() - began
                self.tell(record, method="WEBSOCKET", route=route, status=status, seconds=seconds)


def access_fields(
    record: Record, *, method: str, route: str | None, status: int, seconds: float | None = None
) -> dict[str, Any]:
    """What the line says beside its ids. Times in seconds, to the tenth of a millisecond. What there was not is absent.
    Pure."""
    fields: dict[str, Any] = {"method": method, "route": route, "status": status}
    if seconds is not None:
        fields["duration_seconds"] = round(seconds, 4)
    if record.key is not None:
        fields["key"] = record.key
    if record.stream is not None:
        fields["stream"] = record.stream
    if record.rid is not None:
        fields["engine_request_id"] = record.rid
    if record.error is not None:
        fields["error"] = record.error
    if record.left:
        fields["client_left"] = True
    if record.story is not None:
        _add(fields, record.story)
    return fields


def _add(fields: dict[str, Any], story: Story) -> None:
    usage = story.usage
    if usage is not None:
        fields["prompt_tokens"] = usage.prompt
        fields["cached_tokens"] = usage.cached
    fields["completion_tokens"] = usage.completion or story.pieces if usage is not None else story.pieces
    if story.first is not None:
        fields["time_to_first_token_seconds"] = round(story.first - story.began, 4)
    if story.admitted is not None:
        fields["queue_seconds"] = round(story.admitted - story.began, 4)
    if story.cold is not None:
        until = story.ended if story.opened is None else story.opened
        fields["cold_start_seconds"] = round(until - story.cold, 4)
