"""The settings of a service that runs without Modal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from infra.settings import Settings


def on_this_machine(settings: Settings) -> Settings:
    """The same settings where nobody has said otherwise: engines of this machine, and sessions in memory."""
    if "target" not in settings.deploy.model_fields_set:
        settings = settings.model_copy(update={"deploy": settings.deploy.model_copy(update={"target": "local"})})
    if "kind" not in settings.state.model_fields_set:
        settings = settings.model_copy(update={"state": settings.state.model_copy(update={"kind": "memory"})})
    return settings
