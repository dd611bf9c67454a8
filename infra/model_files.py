"""Where the files of models that were configured by `path` lie on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from infra.checkpoint import objections, read
from infra.configuration import ConfigurationError

if TYPE_CHECKING:
    from infra.settings import Model, Settings

ROOT = Path(__file__).parents[1]


def model_files(model: Model) -> Path | None:
    """The file or folder, on the machine that deploys or serves, of a model that was configured by `path`."""
    return None if model.path is None else (ROOT / Path(model.path).expanduser()).resolve()


def refuse_unfit_files(settings: Settings) -> None:
    """Raise ConfigurationError for a model whose `path` leads to weights that SGLang could not serve as configured."""
    models, target = settings.models, settings.deploy.target
    for model in models.available_models:
        path = model_files(model)
        found = None if path is None or model.engine_for(models, target) != "sglang" else read(path)
        if found is None:
            continue
        longer = model.sglang.image is not None  # what such an image says to its SGLang is not known here
        for objection in objections(model, found, device=model.runs_on(models, target), longer=longer):
            raise ConfigurationError(f"model {model.id!r}: {objection} (says config.json in {path})")


def refuse_missing_files(settings: Settings) -> None:
    """Raise ConfigurationError for a model whose `path` leads to nothing."""
    for model in settings.models.available_models:
        path = model_files(model)
        if path is not None and not path.exists():
            raise ConfigurationError(f"models.available_models: the path of {model.id!r} leads to nothing: {path}")
