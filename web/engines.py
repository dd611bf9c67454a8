"""The port through which the relay finds a model's engine. How engines come to be there is not known here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.settings import EngineKind


@dataclass(frozen=True, kw_only=True)
class EngineTarget:
    """Where a model's engine answers, and how to speak to it."""

    url: str
    """Base URL without a trailing slash; `/v1/chat/completions` is appended."""
    kind: EngineKind
    """Whose dialect it speaks."""
    model: str
    """The name under which the engine serves the model."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Sent with every request: the platform's proxy credentials, the engine's API key."""


class EngineDirectory(Protocol):
    """Which engine serves which model."""

    def resolve(self, label: str) -> EngineTarget:
        """The engine of the model whose id or name is `label`. Must not block: it is called on the event loop for
        every request that wants tokens, again for each of its further attempts, and for no other, so it may take the
        call as demand and start an engine.

        Raises ModelNotFound when no such model is configured, EngineFailed for one that is known not to start.
        """
