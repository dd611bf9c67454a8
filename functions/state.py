"""What outlives a web container, as the settings ask for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from infra.aws import Clients
from infra.table import Bucket, Table
from web.session_table import SessionsInTable

if TYPE_CHECKING:
    from infra.settings import Settings
    from web.clock import Clock
    from web.sessions import SessionStore


@dataclass(frozen=True)
class SharedState:
    """What all containers share. One for each event loop; opens nothing before it is used."""

    clients: Clients
    table: Table
    bucket: Bucket


def shared_state(settings: Settings) -> SharedState | None:
    """None where each process keeps its own."""
    if settings.state.kind == "memory":
        return None
    clients = Clients(region_name=settings.state.region)
    return SharedState(clients, Table(clients, settings.table_name), Bucket(clients, settings.bucket_name))


def session_store(state: SharedState | None, clock: Clock) -> SessionStore | None:
    """A store that all web containers share; None where each is to keep its own."""
    return None if state is None else SessionsInTable(state.table, state.bucket, clock=clock)
