"""What outlives a web container, as the settings ask for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra.key_table import KeysInTable
from infra.metrics_table import MetricsTable
from infra.orphans import Orphans
from infra.usage_table import UsageTable
from web import stored_items
from web.batch_table import BatchesInTable
from web.batches import Storage
from web.file_table import FilesInTable
from web.session_archive import SessionArchive
from web.session_items import OBJECTS
from web.session_table import SessionsInTable
from web.shared_limits import SharedLimiter
from web.stored_table import ResponsesInTable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from functions.shared import SharedState
    from infra.key_store import KeyStore
    from infra.settings import Settings
    from web.batches import BatchRunner
    from web.clock import Clock
    from web.limits import Limiter
    from web.sessions import SessionStore
    from web.stored import ResponseStore
    from web.tracing import Tracing


def usage_store(state: SharedState | None, settings: Settings) -> UsageTable | None:
    """Where usage is written down; None where each is to keep its own."""
    return None if state is None else UsageTable(state.table, keep_days=settings.usage.keep_days)


def session_store(state: SharedState | None, settings: Settings, clock: Clock) -> SessionStore | None:
    """A store that all web containers share; None where each is to keep its own."""
    if state is None:
        return None
    return SessionsInTable(state.table, state.bucket, clock=clock, archive=_archives(settings))


def session_jobs(state: SharedState, settings: Settings, clock: Clock) -> dict[str, Callable[[], Awaitable[int]]]:
    """The housekeeping of sessions."""
    archive = SessionArchive(state.table, state.bucket, clock=clock, keep=_archives(settings))
    orphans = Orphans(state.table, state.bucket, prefix=OBJECTS, time=clock.time)
    return {"sessions": archive.retire_due, "objects of sessions": orphans}


def usage_jobs(state: SharedState, settings: Settings, clock: Clock) -> dict[str, Callable[[], Awaitable[int]]]:
    """The housekeeping of usage: the rows of days that have ended become one."""
    usage = UsageTable(state.table, keep_days=settings.usage.keep_days)
    return {"usage": lambda: usage.compact(now=clock.time())}


def metrics_jobs(state: SharedState, clock: Clock) -> dict[str, Callable[[], Awaitable[int]]]:
    """The housekeeping of metrics: what is left of containers that are gone becomes one row."""
    metrics = MetricsTable(state.table)
    return {"metrics": lambda: metrics.fold(now=clock.time())}


def _archives(settings: Settings) -> bool:
    return settings.state.archive_days > 0


def key_store(state: SharedState | None, clock: Clock) -> KeyStore | None:
    """Of the API keys beside those of the configuration; None where they would be each container's own."""
    return None if state is None else KeysInTable(state.table, time=clock.time)


def file_storage(state: SharedState | None, clock: Clock, *, runner: BatchRunner | None = None) -> Storage | None:
    """Likewise, of files and batches. `runner`: what works on batches, if that is not the process that takes them."""
    if state is None:
        return None
    files, batches = FilesInTable(state.table, clock=clock), BatchesInTable(state.table, clock=clock)
    return Storage(files=files, batches=batches, objects=state.objects, runner=runner)


def response_store(state: SharedState | None, clock: Clock) -> ResponseStore | None:
    """Likewise, of responses and conversations."""
    return None if state is None else ResponsesInTable(state.table, state.bucket, clock=clock)


def response_jobs(state: SharedState, clock: Clock) -> dict[str, Callable[[], Awaitable[int]]]:
    """The housekeeping of responses and conversations: DynamoDB removes those whose time has come, and their objects
    are then nobody's."""
    return {
        f"objects of {prefix.rstrip('/')}": Orphans(state.table, state.bucket, prefix=prefix, time=clock.time)
        for prefix in stored_items.OBJECTS
    }


def tracing_of(settings: Settings) -> Tracing | None:
    """What records traces. None where none are asked for: OpenTelemetry's SDK is not imported then. Raises
    ConfigurationError."""
    if not settings.observability.traced:
        return None
    from functions.tracing import OpenTelemetry

    return OpenTelemetry(settings)


def limiter(state: SharedState | None, settings: Settings, clock: Clock) -> Limiter | None:
    """Of requests and tokens, across all web containers; None where each counts for itself."""
    return None if state is None else SharedLimiter(state.table, settings.limits, clock)
