"""Where the files of models that were configured by `path` lie on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from infra.configuration import ConfigurationError

if TYPE_CHECKING:
    from infra.settings import Model, Settings

ROOT = Path(__file__).parents[1]


def model_files(model: Model) -> Path | None:
    """The file or folder, on the machine that deploys or serves, of a model that was configured by `path`."""
    return None if model.path is None else (ROOT / Path(model.path).expanduser()).resolve()


def refuse_missing_files(settings: Settings) -> None:
    """Raise ConfigurationError for a model whose `path` leads to nothing."""
    for model in settings.models.available_models:
        path = model_files(model)
        if path is not None and not path.exists():
            raise ConfigurationError(f"models.available_models: the path of {model.id!r} leads to nothing: {path}")
