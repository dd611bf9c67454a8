"""The state that all containers share, and what engines' containers keep in it: imported where no package of the web
container is installed (`requirements/cpu.txt`, SGLang's image)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from infra.aws import Clients
from infra.metrics_table import MetricsTable
from infra.objects import Objects
from infra.table import Bucket, Table

if TYPE_CHECKING:
    from infra.settings import Settings


@dataclass(frozen=True)
class SharedState:
    """What all containers share. One for each event loop; opens nothing before it is used."""

    clients: Clients
    table: Table
    bucket: Bucket
    objects: Objects


def shared_state(settings: Settings) -> SharedState | None:
    """None where each process keeps its own."""
    if settings.state.kind == "memory":
        return None
    clients = Clients(region_name=settings.state.region, role_arn=settings.state.role_arn)
    table, name = Table(clients, settings.table_name), settings.bucket_name
    return SharedState(clients, table, Bucket(clients, name), Objects(clients, name))


def metrics_store(state: SharedState | None, settings: Settings) -> MetricsTable | None:
    """Where containers' metrics are put together; None where each tells its own, or there are none."""
    return MetricsTable(state.table) if state is not None and settings.observability.enable_metrics else None
