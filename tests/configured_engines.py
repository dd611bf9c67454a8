"""Engines whose addresses are known: what tests and benchmarks put behind the application."""

from __future__ import annotations

from typing import TYPE_CHECKING

from web.errors import ModelNotFound

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.settings import Models
    from web.engines import EngineTarget


class ConfiguredEngines:
    """An `EngineDirectory`: model id -> target."""

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
