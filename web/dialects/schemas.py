"""The schemas of requests, whose validators are built when they are first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from web.dialects.openai_schema import Open
from web.dialects.service_schema import ServiceRequest

if TYPE_CHECKING:
    from pydantic import BaseModel


def complete_schemas() -> None:
    """Build those of all that are loaded: a memory snapshot holds them then, and no request waits for it."""
    waiting: list[type[BaseModel]] = [Open, ServiceRequest]
    while waiting:
        schema = waiting.pop()
        schema.model_rebuild()
        waiting += schema.__subclasses__()
