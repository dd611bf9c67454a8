"""What the sub-commands of `infra.admin` have in common."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, NoReturn

import typer

from infra.aws import Clients, StateUnavailable
from infra.configuration import ConfigurationError, load_settings
from infra.table import Table

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import TypeVar

    from infra.settings import Settings

    Answer = TypeVar("Answer")


def with_table(work: Callable[[Table, Settings], Awaitable[Answer]]) -> Answer:
    """What `work` comes to on the configured table. Ends the process with one line on stderr: 2 for a wrong
    configuration, 1 where the table cannot be used."""
    try:
        settings = load_settings()
    except ConfigurationError as error:
        fail(str(error), status=2)
    if settings.state.kind == "memory":
        fail('state.kind: is "memory", so there is no table; expected "aws"', status=2)
    clients = Clients(region_name=settings.state.region)

    async def done() -> Answer:
        return await work(Table(clients, settings.table_name), settings)

    try:
        return asyncio.run(done())
    except StateUnavailable as error:
        fail(f"AWS: {error}")
    finally:
        clients.close()


def fail(text: str, *, status: int = 1) -> NoReturn:
    """End the process with one line on stderr."""
    print(f"admin: {text}", file=sys.stderr)
    raise typer.Exit(status)
