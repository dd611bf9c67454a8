"""What outlives a web container, as the settings ask for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra.aws import Clients
from infra.table import Bucket, Table
from web.session_table import SessionsInTable

if TYPE_CHECKING:
    from infra.settings import Settings
    from web.clock import Clock
    from web.sessions import SessionStore


def session_store(settings: Settings, clock: Clock) -> SessionStore | None:
    """A store that all web containers share; None where each is to keep its own. Opens nothing before it is used."""
    if settings.state.kind == "memory":
        return None
    clients = Clients(region_name=settings.state.region)
    return SessionsInTable(Table(clients, settings.table_name), Bucket(clients, settings.bucket_name), clock=clock)
