"""Where the files of models that were configured by `path` lie on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from infra.checkpoint import objections, read
from infra.configuration import ConfigurationError
from infra.gguf_files import part_missing

if TYPE_CHECKING:
    from infra.settings import Model, Settings

ROOT = Path(__file__).parents[1]


def model_files(model: Model) -> Path | None:
    """The file or folder, on the machine that deploys or serves, of a model that was configured by `path`: a link by
    its own name (Hugging Face's cache has links to files that are named by their hash)."""
    if model.path is None:
        return None
    path = ROOT / Path(model.path).expanduser()
    return path.parent.resolve() / path.name


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
    """Raise ConfigurationError for a model whose `path` leads to nothing, or to one in parts that are not all there."""
    for model in settings.models.available_models:
        path = model_files(model)
        if path is not None and not path.exists():
            raise ConfigurationError(f"models.available_models: the path of {model.id!r} leads to nothing: {path}")
        if path is not None and path.is_file() and (missing := part_missing(path)):
            raise ConfigurationError(f"models.available_models: the path of {model.id!r}, {path}: {missing}")
