"""The access log: one line for each request over HTTP and each answer over a WebSocket, when it is over; and the ends
of its trace.

It has the template of the route and never the path, the key's name and never the key.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

from web.asgi import route_path
from web.caller import request_id_of
from web.errors import to_wire
from web.metrics import LEFT
from web.record import Record, recorded
from web.tracing import request_attributes, trace_headers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import Scope

    from web.record import Story
    from web.services import Services

log = logging.getLogger(__name__)

QUIET = ("/health", "/readiness")


class AccessLog:
    """Told by the logger of this module."""

    def __init__(self, services: Services) -> None:
        observability = services.settings.observability
        self._clock = services.clock
        self._tracing = services.tracing
        self._on = observability.access_log
        self._quiet = frozenset({*QUIET, observability.metrics_path})
        """Routes that machines ask every few seconds: told at the level debug."""

    def begin(self, record: Record, scope: Scope) -> float:
        """It comes now, on the clock's monotonic scale."""
        now = self._clock.monotonic()
        if self._tracing is not None and route_path(scope) not in self._quiet:
            record.trace = self._tracing.begin(trace_headers(scope), now)
        return now

    def end(
        self, record: Record, *, method: str, route: str | None, status: int, began: float | None = None
    ) -> None:  # fmt: skip
        """`route`: its template; None: there is none. `began`: None where nobody knows."""
        now = self._clock.monotonic()
        seconds = None if began is None else now - began
        if record.trace is not None:
            told = request_attributes(method=method, route=route, status=status, request_id=record.ids["request_id"])
            record.trace.end(method if route is None else f"{method} {route}", told, record, now, failed=status >= 500)
        level = logging.DEBUG if route in self._quiet and status < 400 else logging.INFO
        if self._on and log.isEnabledFor(level):
            fields = access_fields(record, method=method, route=route, status=status, seconds=seconds)
            # As `log.info` does it, but for the search of who called, which takes longer than all the rest.
            arguments = (method, route or "(no route)", status)
            log.handle(log.makeRecord(log.name, level, __file__, 0, "%s %s %d", arguments, None, extra=fields))

    @contextlib.contextmanager
    def answer(self, scope: Scope, number: int, *, route: str) -> Iterator[Record]:
        """Around an answer over a WebSocket. Its status is the one that its end would have over HTTP."""
        status = LEFT
        with recorded(Record(request_id=f"{request_id_of(scope)}.{number}")) as record:
            began = self.begin(record, scope)
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
                self.end(record, method="WEBSOCKET", route=route, status=status, began=began)


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
