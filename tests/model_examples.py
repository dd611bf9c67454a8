"""The configurations of models in docs/models, as tests read them."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from infra.settings import Settings

if TYPE_CHECKING:
    from infra.models import Model

FOLDER = Path(__file__).parents[1] / "docs/models"
FILES = sorted(FOLDER.glob("*.toml"))


def example(file: Path) -> Model:
    """The one model of a file."""
    (model,) = Settings.model_validate(tomllib.loads(file.read_text("utf-8"))).models.available_models
    return model


def examples() -> list[Model]:
    return [example(file) for file in FILES]
