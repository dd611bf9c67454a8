"""The port through which the relay finds a model's engine. How engines come to be there is not known here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from web.errors import ModelNotFound

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.settings import EngineKind, Models


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


class ConfiguredEngines:
    """A directory of engines whose addresses are known: model id -> target."""

    def __init__(self, models: Models, targets: Mapping[str, EngineTarget]) -> None:
        """Raises ValueError when a configured model has no target."""
        if missing := [model.id for model in models.available_models if model.id not in targets]:
            raise ValueError(f"no engine is known for {', '.join(missing)}")
        self._models = models
        self._targets = dict(targets)

    def resolve(self, label: str) -> EngineTarget:
        model = self._models.find(label)
        if model is None:
            raise ModelNotFound(label)
        return self._targets[model.id]
